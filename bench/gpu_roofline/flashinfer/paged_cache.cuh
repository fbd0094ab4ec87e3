// Our paged cache as FlashInfer's kernels below wgmma take one.
#pragma once

#include <cuda_bf16.h>

#include <cstdint>
#include <flashinfer/page.cuh>

#include "bench/gpu_roofline/flashinfer/workspace.h"

namespace baton::roofline {

// FlashInfer's arguments are not const.
inline nv_bfloat16* Mutable(const Bf16* numbers) {
  return reinterpret_cast<nv_bfloat16*>(const_cast<Bf16*>(numbers));
}
inline int32_t* Mutable(const int32_t* numbers) { return const_cast<int32_t*>(numbers); }

inline flashinfer::paged_kv_t<nv_bfloat16, int32_t> PagedCache(const FlashInferWorkspace& workspace,
                                                               const FlashInferArgs& args) {
  const FlashInferBatch& batch = workspace.batch;
  const int64_t strides[] = {args.page_stride, int64_t{batch.page_size} * batch.head_dim,
                             batch.head_dim};
  return {static_cast<uint32_t>(batch.kv_heads),
          static_cast<uint32_t>(batch.page_size),
          static_cast<uint32_t>(batch.head_dim),
          static_cast<uint32_t>(batch.sequences),
          flashinfer::QKVLayout::kHND,
          Mutable(args.keys),
          Mutable(args.values),
          strides,
          Mutable(args.pages),
          Mutable(workspace.device_page_offsets.data()),
          Mutable(workspace.last_page_lengths.data())};
}

}  // namespace baton::roofline
