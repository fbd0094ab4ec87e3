// Decode steps as graphs: one for each bucket of sequences and positions.
#pragma once

#include <cstddef>
#include <cstdint>
#include <map>
#include <optional>
#include <utility>
#include <vector>

#include "absl/functional/function_ref.h"
#include "absl/status/status.h"
#include "common/kv_layout.h"
#include "engine/kernels/cuda/context.h"
#include "engine/kernels/cuda/graph.h"
#include "engine/model/cuda/cuda_step.h"

namespace baton {

// The smallest shape of a few that holds a step of one row each, with logits of all: powers of two
// of sequences and of four of positions. Nothing: the step has other rows, or fits into none.
std::optional<CudaStepShape> DecodeBucket(const CudaStepShape& shape, const CudaStepLimits& limits);

// All buckets of steps of up to `max_sequences`.
std::vector<CudaStepShape> DecodeBuckets(int32_t max_sequences, const CudaStepLimits& limits);

// Not thread-safe.
class DecodeGraphs {
 public:
  // Enqueues a step of `bucket`, one of DecodeBucket's, on `kv`. `enqueue` does it the first time,
  // so that all that it starts is loaded; the second time it is captured, and started from then on.
  // It must do the same each time for the same bucket and memory.
  absl::Status Run(const CudaContext& context, const CudaStepShape& bucket, const KvRegion& kv,
                   absl::FunctionRef<absl::Status()> enqueue);
  size_t num_captured() const;

 private:
  std::map<std::pair<int32_t, int32_t>, CudaGraph> graphs_;  // by sequences and positions
  std::vector<std::byte*> layer_base_;                       // of the KV that they were captured on
};

}  // namespace baton
