// Which share of a step each op takes.
#pragma once

#include "absl/status/status.h"
#include "engine/model/model.h"

namespace baton {

// Prints for each shape what part of the forward pass each op takes, by the clock of the thread
// that runs the step, and how long its tokens take to draw, in three ways of drawing: of each part
// the smallest of `repeats` steps. Last comes the largest sum of sampling, embedding, norms and
// RoPE.
absl::Status PrintShares(ModelOptions options, int repeats);

// Prints for each prefill shape how many times as fast `options.num_threads` threads are as one:
// the median of `rounds`, each of them a run with one and a run with all.
absl::Status PrintScaling(const ModelOptions& options, int rounds);

}  // namespace baton
