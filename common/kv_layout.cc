#include "common/kv_layout.h"

#include "absl/strings/str_format.h"
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

std::string KvLayout::ToString() const {
  return absl::StrFormat("%d layers x %d kv heads x %d dims, %d-token blocks, %s", num_layers,
                         num_kv_heads, head_dim, block_size, KvDtypeName(dtype));
}

}  // namespace baton
