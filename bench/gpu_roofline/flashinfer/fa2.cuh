// FlashInfer's FlashAttention-2 for prompts, and for decode by tensor cores.
#pragma once

#include <flashinfer/attention/default_prefill_params.cuh>
#include <flashinfer/attention/prefill.cuh>
#include <flashinfer/attention/scheduler.cuh>
#include <flashinfer/attention/variants.cuh>

#include "bench/gpu_roofline/flashinfer/paged_cache.cuh"
#include "common/check.h"

namespace baton::roofline {

template <int32_t kHeadDim>
class Fa2 final : public FlashInferKernel {
 public:
  explicit Fa2(FlashInferWorkspace workspace) : workspace_(std::move(workspace)) {}

  absl::Status Plan(const CudaContext& context) {
    const FlashInferBatch& batch = workspace_.batch;
    return CallFlashInfer("plan", [&] {
      return flashinfer::PrefillPlan<int32_t>(
          workspace_.partial_results.data(), workspace_.partial_results.bytes(),
          workspace_.schedule.data(), workspace_.host_schedule.data(), workspace_.schedule.bytes(),
          plan_, workspace_.row_offsets.data(), workspace_.page_offsets.data(), batch.rows(),
          batch.sequences, batch.heads, batch.kv_heads, kHeadDim, kHeadDim, batch.page_size,
          /*enable_cuda_graph=*/false, sizeof(nv_bfloat16), /*window_left=*/-1,
          /*fixed_split_size=*/-1, /*disable_split_kv=*/false, /*num_colocated_ctas=*/0,
          /*uniform_q_len=*/0, context.stream());
    });
  }

  absl::Status Run(const CudaContext& context, const FlashInferArgs& args) const override {
    const Params params = MakeParams(args);
    // What the scheduler chooses: 16 up to 16 heads of a group, 128 not with heads of 256. One
    // token sees all keys, and FlashInfer's own callers mask none.
    switch (plan_.cta_tile_q) {
      case 16:
        if (workspace_.batch.tokens > 1) break;
        return Launch<16, flashinfer::MaskMode::kNone>(context, params);
      case 64:
        return Launch<64, flashinfer::MaskMode::kCausal>(context, params);
      case 128:
        if constexpr (kHeadDim < 256) {
          return Launch<128, flashinfer::MaskMode::kCausal>(context, params);
        }
    }
    return absl::UnimplementedError(
        absl::StrCat("a plan with tiles of ", plan_.cta_tile_q, " rows"));
  }

 private:
  using Params =
      flashinfer::BatchPrefillPagedParams<nv_bfloat16, nv_bfloat16, nv_bfloat16, int32_t>;
  using Variant = flashinfer::DefaultAttention</*use_custom_mask=*/false,
                                               /*use_sliding_window=*/false,
                                               /*use_logits_soft_cap=*/false, /*use_alibi=*/false>;

  Params MakeParams(const FlashInferArgs& args) const {
    const FlashInferBatch& batch = workspace_.batch;
    Params params;
    params.q = Mutable(args.queries);
    params.q_stride_n = static_cast<int32_t>(args.query_stride);
    params.q_stride_h = kHeadDim;
    params.q_indptr = Mutable(workspace_.device_row_offsets.data());
    params.paged_kv = PagedCache(workspace_, args);
    params.o = Mutable(args.output);
    params.num_qo_heads = batch.heads;
    params.group_size = flashinfer::uint_fastdiv(batch.heads / batch.kv_heads);
    params.window_left = -1;
    params.sm_scale = args.scale;
    params.padded_batch_size = plan_.padded_batch_size;
    params.max_total_num_rows = plan_.total_num_rows;
    params.request_indices = workspace_.Scheduled<int32_t>(plan_.request_indices_offset);
    params.qo_tile_indices = workspace_.Scheduled<int32_t>(plan_.qo_tile_indices_offset);
    params.kv_tile_indices = workspace_.Scheduled<int32_t>(plan_.kv_tile_indices_offset);
    params.o_indptr = workspace_.Scheduled<int32_t>(plan_.o_indptr_offset);
    params.kv_chunk_size_ptr = workspace_.Scheduled<int32_t>(plan_.kv_chunk_size_ptr_offset);
    if (plan_.split_kv) {
      params.merge_indptr = workspace_.Scheduled<int32_t>(plan_.merge_indptr_offset);
    }
    return params;
  }

  template <uint32_t kTileRows, flashinfer::MaskMode kMask>
  absl::Status Launch(const CudaContext& context, const Params& params) const {
    nv_bfloat16* outputs = nullptr;
    float* sums = nullptr;
    if (plan_.split_kv) {
      outputs = workspace_.Partial<nv_bfloat16>(plan_.v_offset);
      sums = workspace_.Partial<float>(plan_.s_offset);
    }
    return CallFlashInfer("run", [&] {
      return flashinfer::BatchPrefillWithPagedKVCacheDispatched<
          /*SAME_KV_STRIDES=*/true, kTileRows, kHeadDim, kHeadDim,
          flashinfer::PosEncodingMode::kNone, /*USE_FP16_QK_REDUCTION=*/false, kMask, Variant>(
          params, outputs, sums, /*enable_pdl=*/false, context.stream());
    });
  }

  FlashInferWorkspace workspace_;
  flashinfer::PrefillPlanInfo plan_;
};

template <int32_t kHeadDim>
PlannedFlashInfer PlanFa2(const CudaContext& context, const FlashInferBatch& batch) {
  ASSIGN_OR_RETURN(FlashInferWorkspace workspace, FlashInferWorkspace::Create(context, batch));
  auto kernel = std::make_unique<Fa2<kHeadDim>>(std::move(workspace));
  RETURN_IF_ERROR(kernel->Plan(context));
  return kernel;
}

}  // namespace baton::roofline
