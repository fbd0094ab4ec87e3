#include "engine/kernels/cuda/attention.h"

#include <bit>
#include <string>

#include "absl/strings/str_cat.h"
#include "common/check.h"
#include "engine/kernels/cuda/prefill_kernels.h"
#include "engine/kernels/paged_attention.h"

namespace baton {

absl::Status CheckCudaAttention(const CudaDeviceInfo& device, const KvLayout& layout) {
  if (layout.dtype != KvDtype::kBf16) {
    return absl::UnimplementedError(absl::StrCat("a KV cache of ",
                                                 std::string(KvDtypeName(layout.dtype)),
                                                 " on CUDA; bf16 is what there is"));
  }
  if (layout.block_size < kMinKvBlockSize || layout.block_size > kMaxKvBlockSize ||
      !std::has_single_bit(static_cast<uint32_t>(layout.block_size))) {
    return absl::UnimplementedError(absl::StrCat("KV blocks of ", layout.block_size,
                                                 " tokens on CUDA; allowed: powers of two from ",
                                                 kMinKvBlockSize, " to ", kMaxKvBlockSize));
  }
  const size_t shared_bytes = AttentionSharedBytes(layout.head_dim);
  if (shared_bytes == 0) {
    return absl::UnimplementedError(absl::StrCat("attention heads of ", layout.head_dim,
                                                 " numbers on CUDA; allowed: 64, 96, 128, 256"));
  }
  if (static_cast<size_t>(device.shared_bytes) < shared_bytes) {
    return absl::UnimplementedError(absl::StrCat(
        "attention heads of ", layout.head_dim, " numbers need ", shared_bytes,
        " bytes of shared memory in a thread block; ", device.name, " has ", device.shared_bytes));
  }
  return absl::OkStatus();
}

bool HasWgmmaAttention(const CudaDeviceInfo& device, int32_t head_dim) {
  // Machine code of 9.0a runs on no other device, and there is no PTX that would become it.
  return device.compute_capability == 90 && (head_dim == 64 || head_dim == 128);
}

void PrefillAttention(const CudaContext& context, const CudaAttentionArgs& args) {
  BATON_CHECK(args.key_range_log2 <= kMaxKeyRangeLog2 && 1 << args.key_range_log2 >= kAttentionTile)
      << args.key_range_log2;
  if (args.prefers_wgmma && HasWgmmaAttention(context.info(), args.layer.head_dim)) {
    WgmmaAttention(context, args);
  } else {
    MmaAttention(context, args);
  }
}

}  // namespace baton
