// What the ranks of a tensor-parallel group but the first do: what rank 0 tells them.
#pragma once

#include "absl/status/status.h"
#include "engine/model/model.h"
#include "engine/runtime/leading_model.h"

namespace baton {

// Loads this rank's part of the model and serves until rank 0 goes, which is OK. An error means
// that the group is broken. The calling thread computes.
absl::Status ServeRank(const ModelOptions& options, const RankLink& link);

}  // namespace baton
