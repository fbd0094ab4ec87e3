#include "engine/model/cuda/decode_graphs.h"

#include <algorithm>
#include <bit>

#include "common/check.h"

namespace baton {
namespace {

// Below this more positions are not worth a graph of their own: few thread blocks end at once.
constexpr int32_t kFewPositions = 1024;

int32_t PositionBucket(int32_t positions, int32_t most) {
  int64_t bucket = kFewPositions;
  while (bucket < positions) bucket *= 4;
  return static_cast<int32_t>(std::min<int64_t>(bucket, most));
}

}  // namespace

std::optional<CudaStepShape> DecodeBucket(const CudaStepShape& shape,
                                          const CudaStepLimits& limits) {
  const bool decodes =
      shape.prefill.count == 0 && shape.decode.count > 0 && shape.decode.max_rows == 1;
  if (!decodes) return std::nullopt;
  const int32_t most = std::min({limits.max_sequences, limits.max_rows, limits.max_logit_rows});
  if (shape.decode.count > most) return std::nullopt;
  const auto power = static_cast<int32_t>(std::bit_ceil(static_cast<uint32_t>(shape.decode.count)));
  const int32_t sequences = std::min(power, most);
  return CudaStepShape{.rows = sequences,
                       .logit_rows = sequences,
                       .decode = {.count = sequences,
                                  .max_rows = 1,
                                  .max_positions = PositionBucket(shape.decode.max_positions,
                                                                  limits.max_positions)}};
}

std::vector<CudaStepShape> DecodeBuckets(int32_t max_sequences, const CudaStepLimits& limits) {
  std::vector<CudaStepShape> buckets;
  const auto add = [&](int32_t sequences, int32_t positions) {
    const auto bucket = DecodeBucket(
        {.decode = {.count = sequences, .max_rows = 1, .max_positions = positions}}, limits);
    if (bucket.has_value()) buckets.push_back(*bucket);
    return bucket.has_value();
  };
  for (int32_t sequences = 1; sequences <= max_sequences;) {
    for (int32_t positions = 1; positions <= limits.max_positions;) {
      if (!add(sequences, positions)) return buckets;
      positions = buckets.back().decode.max_positions + 1;
    }
    sequences = buckets.back().decode.count + 1;
  }
  return buckets;
}

absl::Status DecodeGraphs::Run(const CudaContext& context, const CudaStepShape& bucket,
                               const KvRegion& kv, absl::FunctionRef<absl::Status()> enqueue) {
  if (kv.layer_base != layer_base_) {
    graphs_.clear();
    layer_base_ = kv.layer_base;
  }
  const auto [found, is_new] =
      graphs_.try_emplace({bucket.decode.count, bucket.decode.max_positions});
  if (is_new) return enqueue();
  CudaGraph& graph = found->second;
  if (!graph.captured()) {
    ASSIGN_OR_RETURN(graph, CudaGraph::Capture(context, enqueue));
  }
  graph.Launch(context);
  return context.status();
}

size_t DecodeGraphs::num_captured() const {
  return static_cast<size_t>(
      std::ranges::count_if(graphs_, [](const auto& graph) { return graph.second.captured(); }));
}

}  // namespace baton
