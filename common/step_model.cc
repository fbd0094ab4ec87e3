#include "common/step_model.h"

#include <algorithm>
#include <array>
#include <cmath>
#include <limits>
#include <vector>

#include "absl/strings/str_cat.h"
#include "common/check.h"

namespace baton {
namespace {

constexpr int kCoefficients = 3;
using Row = std::array<double, kCoefficients>;

// Below it the columns of a grid are as good as dependent. Independent ones have 1, equal ones 0.
constexpr double kSmallestVolume = 1e-9;

// Of the newest step, once a tracker has seen a few.
constexpr double kWeight = 0.05;
// Of it, what the step's own size learns; the rest holds for all sizes.
constexpr double kOwnShare = 0.3;
// A tracker starts as if it had measured this many steps exactly as predicted.
constexpr double kPriorSteps = 5;
// A step that was descheduled says nothing about the next one.
constexpr double kSmallestFactor = 0.1;
constexpr double kLargestFactor = 10;

// Σ (features·x / ms − 1)² as normal equations, its columns scaled to length 1.
struct Problem {
  std::array<Row, kCoefficients> gram{};  // of the scaled columns
  Row right{};
  Row scale{};
};

Problem MakeProblem(std::span<const Row> features, std::span<const double> ms) {
  Problem problem;
  for (size_t i = 0; i < features.size(); ++i) {
    for (int j = 0; j < kCoefficients; ++j) {
      const double value = features[i][j] / ms[i];
      problem.right[j] += value;
      for (int k = 0; k < kCoefficients; ++k) problem.gram[j][k] += value * features[i][k] / ms[i];
    }
  }
  for (int j = 0; j < kCoefficients; ++j) problem.scale[j] = std::sqrt(problem.gram[j][j]);
  for (int j = 0; j < kCoefficients; ++j) {
    if (problem.scale[j] == 0) continue;
    problem.right[j] /= problem.scale[j];
    for (int k = 0; k < kCoefficients; ++k) {
      if (problem.scale[k] > 0) problem.gram[j][k] /= problem.scale[j] * problem.scale[k];
    }
  }
  return problem;
}

double Determinant(const std::array<Row, kCoefficients>& m) {
  return m[0][0] * (m[1][1] * m[2][2] - m[1][2] * m[2][1]) -
         m[0][1] * (m[1][0] * m[2][2] - m[1][2] * m[2][0]) +
         m[0][2] * (m[1][0] * m[2][1] - m[1][1] * m[2][0]);
}

// The best x with x[j] = 0 where `free` has no bit j, by Cramer's rule: rows and columns that are
// not free are those of the identity.
Row SolveFree(const Problem& problem, unsigned free) {
  std::array<Row, kCoefficients> matrix{};
  Row right{};
  for (int j = 0; j < kCoefficients; ++j) {
    if ((free >> j & 1u) == 0) {
      matrix[j][j] = 1;
      continue;
    }
    right[j] = problem.right[j];
    for (int k = 0; k < kCoefficients; ++k) {
      if ((free >> k & 1u) != 0) matrix[j][k] = problem.gram[j][k];
    }
  }
  const double volume = Determinant(matrix);
  Row x{};
  for (int j = 0; j < kCoefficients; ++j) {
    auto replaced = matrix;
    for (int k = 0; k < kCoefficients; ++k) replaced[k][j] = right[k];
    x[j] = Determinant(replaced) / volume;
  }
  return x;
}

// Up to a constant, what x leaves unexplained.
double Loss(const Problem& problem, const Row& x) {
  double loss = 0;
  for (int j = 0; j < kCoefficients; ++j) {
    loss -= 2 * x[j] * problem.right[j];
    for (int k = 0; k < kCoefficients; ++k) loss += x[j] * problem.gram[j][k] * x[k];
  }
  return loss;
}

// The best of all sets of coefficients that are not zero: with three there are only eight.
absl::StatusOr<Row> Fit(const char* kind, std::span<const Row> features,
                        std::span<const double> ms) {
  const Problem problem = MakeProblem(features, ms);
  if (features.size() < kCoefficients || Determinant(problem.gram) < kSmallestVolume) {
    return absl::InvalidArgumentError(
        absl::StrCat("the ", features.size(), " ", kind,
                     " steps are too few or too much alike to tell the coefficients apart"));
  }
  Row best{};
  double best_loss = std::numeric_limits<double>::infinity();
  for (unsigned free = 0; free < (1u << kCoefficients); ++free) {
    const Row x = SolveFree(problem, free);
    if (std::ranges::any_of(x, [](double value) { return value < 0; })) continue;
    const double loss = Loss(problem, x);
    if (loss < best_loss) {
      best_loss = loss;
      best = x;
    }
  }
  for (int j = 0; j < kCoefficients; ++j) best[j] /= problem.scale[j];
  return best;
}

double PrefillPart(const StepModel& model, const StepShape& shape) {
  return model.prefill_token_ms * static_cast<double>(shape.prefill_tokens) +
         model.prefill_pair_ms * shape.prefill_pairs;
}

double DecodePart(const StepModel& model, const StepShape& shape) {
  return model.decode_row_ms * static_cast<double>(shape.decode_rows) +
         model.decode_context_ms * static_cast<double>(shape.decode_context);
}

double Predict(const StepModel& model, double prefill_factor, double decode_factor,
               const StepShape& shape) {
  const bool prefills = shape.prefill_tokens > 0;
  const bool decodes = shape.decode_rows > 0;
  const double prefill_base = prefills ? model.prefill_base_ms * prefill_factor : 0;
  const double decode_base = decodes ? model.decode_base_ms * decode_factor : 0;
  double ms = std::max(prefill_base, decode_base);
  if (prefills) ms += PrefillPart(model, shape) * prefill_factor;
  if (decodes) ms += DecodePart(model, shape) * decode_factor;
  return ms;
}

}  // namespace

StepShape StepShape::Prefill(int64_t tokens, int64_t cached) {
  const auto new_tokens = static_cast<double>(tokens);
  return {.prefill_tokens = tokens,
          .prefill_pairs =
              new_tokens * static_cast<double>(cached) + new_tokens * (new_tokens + 1) / 2};
}

StepShape& StepShape::operator+=(const StepShape& other) {
  prefill_tokens += other.prefill_tokens;
  prefill_pairs += other.prefill_pairs;
  decode_rows += other.decode_rows;
  decode_context += other.decode_context;
  return *this;
}

double StepModel::PredictMs(const StepShape& shape) const { return Predict(*this, 1, 1, shape); }

bool StepModel::Extrapolates(const StepShape& shape) const {
  return shape.prefill_tokens > profiled_prefill_tokens ||
         shape.decode_rows > profiled_decode_rows || shape.decode_context > profiled_context_tokens;
}

absl::StatusOr<StepModel> FitStepModel(std::span<const StepSample> samples) {
  std::vector<Row> prefill, decode;
  std::vector<double> prefill_ms, decode_ms;
  StepModel model;
  for (const StepSample& sample : samples) {
    const StepShape& shape = sample.shape;
    if (!(sample.ms > 0) || !std::isfinite(sample.ms)) {
      return absl::InvalidArgumentError(
          absl::StrCat("a step took ", sample.ms, " ms, must be above 0"));
    }
    if (shape.prefill_tokens > 0 && shape.decode_rows == 0) {
      prefill.push_back({1, static_cast<double>(shape.prefill_tokens), shape.prefill_pairs});
      prefill_ms.push_back(sample.ms);
      model.profiled_prefill_tokens = std::max(model.profiled_prefill_tokens, shape.prefill_tokens);
    } else if (shape.decode_rows > 0 && shape.prefill_tokens == 0) {
      decode.push_back(
          {1, static_cast<double>(shape.decode_rows), static_cast<double>(shape.decode_context)});
      decode_ms.push_back(sample.ms);
      model.profiled_decode_rows = std::max(model.profiled_decode_rows, shape.decode_rows);
      model.profiled_context_tokens = std::max(model.profiled_context_tokens, shape.decode_context);
    }
  }
  ASSIGN_OR_RETURN(const Row prefill_fit, Fit("prefill", prefill, prefill_ms));
  ASSIGN_OR_RETURN(const Row decode_fit, Fit("decode", decode, decode_ms));
  model.prefill_base_ms = prefill_fit[0];
  model.prefill_token_ms = prefill_fit[1];
  model.prefill_pair_ms = prefill_fit[2];
  model.decode_base_ms = decode_fit[0];
  model.decode_row_ms = decode_fit[1];
  model.decode_context_ms = decode_fit[2];
  return model;
}

double SizeFactors::At(double size) const {
  const double place = std::log2(std::clamp(size, 1.0, std::exp2(kSizes - 1)));
  const auto below = static_cast<size_t>(place);
  const size_t above = std::min<size_t>(below + 1, kSizes - 1);
  const double part = place - static_cast<double>(below);
  return (1 - part) * at[below] + part * at[above];
}

void StepModelTracker::Correction::Observe(double size, double ratio) {
  const double place = std::log2(std::clamp(size, 1.0, std::exp2(SizeFactors::kSizes - 1)));
  const auto below = static_cast<size_t>(place);
  const size_t above = std::min(below + 1, own_.size() - 1);
  const double part = place - static_cast<double>(below);
  const double own = (1 - part) * own_[below] + part * own_[above];
  const double error = std::log(ratio) - (common_ + own);
  const double weight = std::max(kWeight, 1 / (static_cast<double>(observed_) + kPriorSteps + 1));
  common_ += weight * (1 - kOwnShare) * error;
  own_[below] += weight * kOwnShare * (1 - part) * error;
  own_[above] += weight * kOwnShare * part * error;
  mean_ += weight * (std::log(ratio) - mean_);
  ++observed_;
  for (size_t i = 0; i < own_.size(); ++i) {
    factors_.at[i] = static_cast<float>(std::exp(common_ + own_[i]));
  }
}

double StepModelTracker::Correction::Mean() const { return std::exp(mean_); }

void StepModelTracker::Observe(const StepShape& shape, double ms) {
  const double uncorrected = model_.PredictMs(shape);
  if (!(uncorrected > 0) || !(ms > 0) || !std::isfinite(ms)) return;
  // Also of mixed steps; and before this step corrects anything.
  const double error = std::min(std::abs(PredictMs(shape) - ms) / ms, kLargestFactor);
  error_ratio_ +=
      std::max(kWeight, 1 / static_cast<double>(observed_ + 1)) * (error - error_ratio_);
  ++observed_;
  step_time_.measured_ms += ms;
  step_time_.calibrated_ms += uncorrected;

  const double ratio = std::clamp(ms / uncorrected, kSmallestFactor, kLargestFactor);
  if (shape.decode_rows == 0) {
    prefill_.Observe(static_cast<double>(shape.prefill_tokens), ratio);
  } else if (shape.prefill_tokens == 0) {
    decode_.Observe(static_cast<double>(shape.decode_rows), ratio);
  }
}

double StepModelTracker::PredictMs(const StepShape& shape) const {
  return Predict(model_, prefill_factors().At(static_cast<double>(shape.prefill_tokens)),
                 decode_factors().At(static_cast<double>(shape.decode_rows)), shape);
}

}  // namespace baton
