// Measures how long steps take, on a model that serves nothing yet: a short grid of forward passes
// with draws, and the step model that fits it. What a run computes stays in KV blocks that nobody
// holds and no index knows.
#pragma once

#include <cstdint>
#include <functional>
#include <vector>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "absl/time/time.h"
#include "common/clock.h"
#include "common/kv_layout.h"
#include "common/step_model.h"
#include "engine/model/model.h"
#include "engine/runtime/step_sampler.h"

namespace baton {

struct CalibrationLimits {
  int32_t max_batch_tokens = 0;
  int32_t max_batch_sequences = 0;
  int32_t max_model_len = 0;
  int32_t num_blocks = 0;
  int32_t block_size = 16;
};

// One kind of step: `rows` sequences, each computing `tokens` after `context` that have their KV.
struct CalibrationPoint {
  int32_t rows = 1;
  int32_t tokens = 1;
  int32_t context = 0;
  bool decodes = false;   // tokens is 1
  bool required = false;  // without it there is nothing to fit

  StepShape Shape() const;
  friend bool operator==(const CalibrationPoint&, const CalibrationPoint&) = default;
};

// What to measure: the required points first, then the rest from the cheapest to the dearest.
// All of it is within the limits. Empty: they are too tight for a grid.
std::vector<CalibrationPoint> CalibrationGrid(const CalibrationLimits& limits);

// Runs the first point once to warm up, then measures the required points, and of the others those
// that `budget` has time for; each up to three times, of which the shortest counts: other work on
// the machine only ever adds. `run` executes a point once; its error is returned.
absl::StatusOr<StepModel> Calibrate(
    const std::vector<CalibrationPoint>& grid, absl::Duration budget, const Clock& clock,
    const std::function<absl::Status(const CalibrationPoint&)>& run);

// Writes to the blocks that the points of `grid` use, so that no step pays for fresh pages.
void TouchCalibrationBlocks(const std::vector<CalibrationPoint>& grid, const KvRegion& kv);

// Executes a point as the step runner would: forward pass, then one draw for each row. Overwrites
// the first blocks of `kv`.
absl::Status RunCalibrationPoint(const CalibrationPoint& point, const KvRegion& kv, Model* model,
                                 StepSampler* sampler, Logits* logits);

}  // namespace baton
