// How long a step of the engine takes: what workers calibrate at start-up, correct while they run
// and report, and what routers predict with. Pure.
//
//   prefill  base + tokens·t + pairs·p    pairs: of (new token, token that it attends to)
//   decode   base + rows·r + context·c    context: tokens that the rows attend to, in all
//   mixed    both, with the larger base once
//
// Outside the measured range the model goes on in a straight line; Extrapolates says so.
#pragma once

#include <array>
#include <cstdint>
#include <span>

#include "absl/status/statusor.h"

namespace baton {

// What one step computes.
struct StepShape {
  int64_t prefill_tokens = 0;
  double prefill_pairs = 0;
  int64_t decode_rows = 0;
  int64_t decode_context = 0;

  // `tokens` new tokens of one sequence after `cached` that have their KV.
  static StepShape Prefill(int64_t tokens, int64_t cached);
  StepShape& operator+=(const StepShape& other);
};

struct StepModel {
  double prefill_base_ms = 0;
  double prefill_token_ms = 0;
  double prefill_pair_ms = 0;
  double decode_base_ms = 0;
  double decode_row_ms = 0;
  double decode_context_ms = 0;
  int64_t profiled_prefill_tokens = 0;
  int64_t profiled_decode_rows = 0;
  int64_t profiled_context_tokens = 0;

  bool known() const { return profiled_prefill_tokens > 0 || profiled_decode_rows > 0; }
  double PredictMs(const StepShape& shape) const;  // 0 for an empty step
  bool Extrapolates(const StepShape& shape) const;
};

struct StepSample {
  StepShape shape;
  double ms = 0;
};

// Least squares on the relative error, no coefficient below zero. INVALID_ARGUMENT: too few pure
// prefill or pure decode samples to tell the coefficients apart, or a time that is not positive.
absl::StatusOr<StepModel> FitStepModel(std::span<const StepSample> samples);

// Measured over predicted time by the size of a step: its new prompt tokens, or its decode rows.
// One figure for each power of two; between them in a line over the logarithm, beyond them the last
// one.
struct SizeFactors {
  static constexpr int kSizes = 14;  // 1 to 8192
  std::array<float, kSizes> at;      // [log2 of the size]

  SizeFactors() { at.fill(1); }
  explicit SizeFactors(float everywhere) { at.fill(everywhere); }
  double At(double size) const;
  friend bool operator==(const SizeFactors&, const SizeFactors&) = default;
};

// What all steps since the start have taken, and what the model as calibrated says of them.
struct StepTime {
  double measured_ms = 0;
  double calibrated_ms = 0;
};

// A model that is corrected by what is measured, so that a machine that runs slower than at
// start-up (shared, throttled) is predicted as it is now, and a size of step that the straight
// lines do not meet is predicted as it was.
class StepModelTracker {
 public:
  explicit StepModelTracker(const StepModel& model) : model_(model) {}

  // Mixed steps correct nothing: which part was slow is not known.
  void Observe(const StepShape& shape, double ms);
  double PredictMs(const StepShape& shape) const;

  const StepModel& model() const { return model_; }
  // Moving means over steps of all sizes.
  double prefill_factor() const { return prefill_.Mean(); }
  double decode_factor() const { return decode_.Mean(); }
  const SizeFactors& prefill_factors() const { return prefill_.factors(); }
  const SizeFactors& decode_factors() const { return decode_.factors(); }
  const StepTime& step_time() const { return step_time_; }  // mixed steps, too
  double error_ratio() const { return error_ratio_; }       // moving mean of |predicted - ms| / ms

 private:
  // In logarithms, so that one slow step among many weighs little: what all sizes have in common,
  // which moves first, and how each size differs from that.
  class Correction {
   public:
    void Observe(double size, double ratio);
    double Mean() const;
    const SizeFactors& factors() const { return factors_; }

   private:
    double mean_ = 0;
    double common_ = 0;
    std::array<double, SizeFactors::kSizes> own_{};
    int64_t observed_ = 0;
    SizeFactors factors_;
  };

  const StepModel model_;
  Correction prefill_;
  Correction decode_;
  StepTime step_time_;
  double error_ratio_ = 0;
  int64_t observed_ = 0;
};

}  // namespace baton
