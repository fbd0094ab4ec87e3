#include "kvtransfer/region_spans.h"

#include <algorithm>
#include <cstring>
#include <utility>

#include "common/check.h"
#include "kvtransfer/core/copy_plan.h"

namespace baton {

RegionSpans::RegionSpans(KvMemory memory) : memory_(std::move(memory)) {
  // One block of one layer; all are alike.
  KvShard wire{.layout = memory_.layout};
  wire.layout.num_layers = 1;
  const auto copies = static_cast<size_t>(memory_.copies);
  for (size_t i = 0; i < memory_.regions.size(); i += copies) {
    KvShard shard{.layout = memory_.regions[i].layout};
    shard.layout.num_layers = 1;
    shard.first_head = static_cast<int32_t>(i / copies) * shard.layout.num_kv_heads;
    const auto plan = PlanCopy(shard, wire, {.num_tokens = wire.layout.block_size});
    BATON_CHECK(plan.ok()) << plan.status().ToString();
    for (const CopySegment& segment : *plan) {
      pieces_.push_back({.region = i,
                         .offset = segment.source_offset,
                         .wire_offset = segment.target_offset,
                         .length_bytes = static_cast<size_t>(segment.length_bytes)});
    }
  }
  std::ranges::sort(pieces_, {}, &Piece::wire_offset);
}

std::vector<MemorySpan> RegionSpans::Of(int32_t layer, std::span<const BlockId> blocks) const {
  std::vector<MemorySpan> spans;
  for (const BlockId block : blocks) {
    BATON_CHECK(block.value() >= 0 && block.value() < memory_.num_blocks) << block;
    for (const Piece& piece : pieces_) {
      std::byte* data = memory_.regions[piece.region].Block(layer, block) + piece.offset;
      if (!spans.empty() && spans.back().data + spans.back().length_bytes == data) {
        spans.back().length_bytes += piece.length_bytes;
      } else {
        spans.push_back({data, piece.length_bytes});
      }
    }
  }
  return spans;
}

std::vector<MemorySpan> RegionSpans::All() const {
  std::vector<MemorySpan> spans;
  for (size_t i = 0; i < memory_.regions.size(); i += static_cast<size_t>(memory_.copies)) {
    const KvRegion& region = memory_.regions[i];
    const auto bytes = static_cast<size_t>(region.num_blocks * region.layout.BlockBytes());
    for (std::byte* layer : region.layer_base) spans.push_back({layer, bytes});
  }
  return spans;
}

void RegionSpans::WriteCopies(int32_t layer, std::span<const BlockId> blocks) const {
  const auto copies = static_cast<size_t>(memory_.copies);
  for (size_t i = 0; i < memory_.regions.size(); ++i) {
    if (i % copies == 0) continue;
    const KvRegion& from = memory_.regions[i - i % copies];
    const KvRegion& to = memory_.regions[i];
    for (const BlockId block : blocks) {
      std::memcpy(to.Block(layer, block), from.Block(layer, block),
                  static_cast<size_t>(to.layout.BlockBytes()));
    }
  }
}

}  // namespace baton
