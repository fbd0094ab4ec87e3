#include "common/kv_layout.h"

#include <cstring>
#include <utility>

#include "absl/strings/str_format.h"
#include "common/check.h"
#include "common/hash.h"

namespace baton {

std::string_view KvDtypeName(KvDtype dtype) {
  switch (dtype) {
    case KvDtype::kBf16:
      return "bf16";
    case KvDtype::kF32:
      return "f32";
    case KvDtype::kInt8:
      break;
  }
  return "int8";
}

uint64_t KvLayout::Fingerprint(uint64_t model_fingerprint) const {
  uint64_t hash = HashCombine(model_fingerprint, static_cast<uint64_t>(num_layers));
  hash = HashCombine(hash, static_cast<uint64_t>(num_kv_heads));
  hash = HashCombine(hash, static_cast<uint64_t>(head_dim));
  hash = HashCombine(hash, static_cast<uint64_t>(block_size));
  return HashCombine(hash, static_cast<uint64_t>(dtype));
}

void CopyKvBlocks(std::span<const KvBlockCopy> copies, const KvRegion& kv) {
  const auto block_bytes = static_cast<size_t>(kv.layout.BlockBytes());
  for (const KvBlockCopy& copy : copies) {
    for (int32_t layer = 0; layer < kv.layout.num_layers; ++layer) {
      std::memcpy(kv.Block(layer, copy.to), kv.Block(layer, copy.from), block_bytes);
    }
  }
}

KvMemory JoinKvRegions(std::vector<KvRegion> regions, int32_t copies) {
  const auto count = static_cast<int32_t>(regions.size());
  BATON_CHECK(count > 0 && copies > 0 && count % copies == 0) << count << copies;
  KvMemory memory{.layout = regions[0].layout,
                  .num_blocks = regions[0].num_blocks,
                  .regions = std::move(regions),
                  .copies = copies};
  for (const KvRegion& region : memory.regions) {
    BATON_CHECK(region.layout == memory.layout && region.num_blocks == memory.num_blocks)
        << region.layout.ToString();
  }
  memory.layout.num_kv_heads *= count / copies;
  return memory;
}

std::string KvLayout::ToString() const {
  return absl::StrFormat("%d layers x %d kv heads x %d dims, %d-token blocks, %s", num_layers,
                         num_kv_heads, head_dim, block_size, KvDtypeName(dtype));
}

}  // namespace baton
