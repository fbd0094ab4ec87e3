// Which bytes go where when KV moves between two pools that need not be laid out alike: other block
// sizes, another split of KV heads (tensor parallelism), another split of layers. Pure.
//
// The wire carries whole blocks of all heads of the model. Each side plans the copy between that
// and the shards that its processes hold (RegionSpans), so workers of any degree of tensor
// parallelism exchange KV. Other block sizes or splits of layers are refused at the handshake: the
// plans for them are here, and nobody carries them out.
#pragma once

#include <cstdint>
#include <vector>

#include "absl/status/statusor.h"
#include "common/ids.h"
#include "common/kv_layout.h"

namespace baton {

// One worker's part of a model's KV. `layout` counts the layers and heads that this worker holds.
struct KvShard {
  KvLayout layout;
  int32_t first_layer = 0;  // of the model
  int32_t first_head = 0;   // of the model
};

// The tokens [first_token, first_token + num_tokens) of a sequence.
struct TokenRange {
  int32_t first_token = 0;
  int32_t num_tokens = 0;
};

// Copies `length_bytes` from a block of the source to a block of the target. Layers are the
// shards' own; blocks are logical: token / block_size.
struct CopySegment {
  int32_t source_layer = 0;
  int32_t source_block = 0;
  int64_t source_offset = 0;
  int32_t target_layer = 0;
  int32_t target_block = 0;
  int64_t target_offset = 0;
  int64_t length_bytes = 0;

  friend bool operator==(const CopySegment&, const CopySegment&) = default;
};

// Everything that both shards hold of `tokens`, each byte once, in as few segments as the layouts
// allow. Errors: head_dim or dtype differ, a range or layout is not valid.
absl::StatusOr<std::vector<CopySegment>> PlanCopy(const KvShard& source, const KvShard& target,
                                                  TokenRange tokens);

// A plan put on real blocks: offsets are from the layer's base in each pool.
struct CopyMove {
  int32_t source_layer = 0;
  int64_t source_offset = 0;
  int32_t target_layer = 0;
  int64_t target_offset = 0;
  int64_t length_bytes = 0;

  friend bool operator==(const CopyMove&, const CopyMove&) = default;
};

// `source_blocks[i]` and `target_blocks[i]` hold logical block i. Moves that continue one another
// on both sides become one.
// REQUIRES: the tables cover every block that the plan names.
std::vector<CopyMove> PlaceCopy(const std::vector<CopySegment>& plan, const KvShard& source,
                                const std::vector<BlockId>& source_blocks, const KvShard& target,
                                const std::vector<BlockId>& target_blocks);

}  // namespace baton
