// FlashInfer's decode kernel on CUDA cores.
#pragma once

#include <flashinfer/attention/decode.cuh>
#include <flashinfer/attention/default_decode_params.cuh>
#include <flashinfer/attention/scheduler.cuh>
#include <flashinfer/attention/variants.cuh>

#include "bench/gpu_roofline/flashinfer/paged_cache.cuh"
#include "common/check.h"

namespace baton::roofline {

template <int32_t kHeadDim>
class CudaCores final : public FlashInferKernel {
 public:
  explicit CudaCores(FlashInferWorkspace workspace) : workspace_(std::move(workspace)) {}

  absl::Status Plan(const CudaContext& context) {
    const FlashInferBatch& batch = workspace_.batch;
    return CallFlashInfer("plan", [&] {
      const auto estimate = [&](auto&&... args) -> cudaError_t {
        DISPATCH_GQA_GROUP_SIZE(batch.heads / batch.kv_heads, kGroupSize, {
          return flashinfer::BatchDecodeWithPagedKVCacheWorkEstimationDispatched<
              kGroupSize, kHeadDim, kNoPositions, Variant, Params>(args...);
        });
      };
      return flashinfer::DecodePlan<kHeadDim, kNoPositions, Variant, Params>(
          workspace_.partial_results.data(), workspace_.partial_results.bytes(),
          workspace_.schedule.data(), workspace_.host_schedule.data(), workspace_.schedule.bytes(),
          plan_, workspace_.page_offsets.data(), batch.sequences, batch.heads, batch.page_size,
          /*enable_cuda_graph=*/false, context.stream(), estimate);
    });
  }

  absl::Status Run(const CudaContext& context, const FlashInferArgs& args) const override {
    const FlashInferBatch& batch = workspace_.batch;
    Params params;
    params.q = Mutable(args.queries);
    params.q_stride_n = static_cast<int32_t>(args.query_stride);
    params.q_stride_h = kHeadDim;
    params.paged_kv = PagedCache(workspace_, args);
    params.o = Mutable(args.output);
    params.num_qo_heads = batch.heads;
    params.window_left = -1;
    params.sm_scale = args.scale;
    params.padded_batch_size = plan_.padded_batch_size;
    params.request_indices = workspace_.Scheduled<int32_t>(plan_.request_indices_offset);
    params.kv_tile_indices = workspace_.Scheduled<int32_t>(plan_.kv_tile_indices_offset);
    params.o_indptr = workspace_.Scheduled<int32_t>(plan_.o_indptr_offset);
    params.kv_chunk_size_ptr = workspace_.Scheduled<int32_t>(plan_.kv_chunk_size_ptr_offset);
    nv_bfloat16* outputs = nullptr;
    float* sums = nullptr;
    if (plan_.split_kv) {
      outputs = workspace_.Partial<nv_bfloat16>(plan_.v_offset);
      sums = workspace_.Partial<float>(plan_.s_offset);
    }
    return CallFlashInfer("run", [&] {
      return flashinfer::BatchDecodeWithPagedKVCacheDispatched<kHeadDim, kNoPositions, Variant>(
          params, outputs, sums, /*enable_pdl=*/false, context.stream());
    });
  }

 private:
  using Params = flashinfer::BatchDecodeParams<nv_bfloat16, nv_bfloat16, nv_bfloat16, int32_t>;
  using Variant = flashinfer::DefaultAttention</*use_custom_mask=*/false,
                                               /*use_sliding_window=*/false,
                                               /*use_logits_soft_cap=*/false, /*use_alibi=*/false>;
  static constexpr auto kNoPositions = flashinfer::PosEncodingMode::kNone;

  FlashInferWorkspace workspace_;
  flashinfer::DecodePlanInfo plan_;
};

template <int32_t kHeadDim>
PlannedFlashInfer PlanCudaCores(const CudaContext& context, const FlashInferBatch& batch) {
  ASSIGN_OR_RETURN(FlashInferWorkspace workspace, FlashInferWorkspace::Create(context, batch));
  auto kernel = std::make_unique<CudaCores<kHeadDim>>(std::move(workspace));
  RETURN_IF_ERROR(kernel->Plan(context));
  return kernel;
}

}  // namespace baton::roofline
