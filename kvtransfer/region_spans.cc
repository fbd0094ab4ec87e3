#include "kvtransfer/region_spans.h"

#include "common/check.h"

namespace baton {

std::vector<MemorySpan> SpansOf(const KvRegion& region, int32_t layer,
                                std::span<const BlockId> blocks) {
  const auto block_bytes = static_cast<size_t>(region.layout.BlockBytes());
  std::vector<MemorySpan> spans;
  for (const BlockId block : blocks) {
    BATON_CHECK(block.value() >= 0 && block.value() < region.num_blocks) << block;
    std::byte* data = region.Block(layer, block);
    if (!spans.empty() && spans.back().data + spans.back().length_bytes == data) {
      spans.back().length_bytes += block_bytes;
    } else {
      spans.push_back({data, block_bytes});
    }
  }
  return spans;
}

}  // namespace baton
