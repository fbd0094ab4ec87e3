// FlashInfer's FlashAttention-3 for prompts on compute capability 9.0.
#pragma once

#include <flashinfer/attention/hopper/default_params.cuh>
#include <flashinfer/attention/hopper/prefill_sm90.cuh>
#include <flashinfer/attention/hopper/variants.cuh>
#include <flashinfer/attention/mask.cuh>
#include <flashinfer/attention/scheduler.cuh>

#include "bench/gpu_roofline/flashinfer/workspace.h"
#include "common/check.h"

namespace baton::roofline {

template <int32_t kHeadDim>
class Fa3 final : public FlashInferKernel {
 public:
  explicit Fa3(FlashInferWorkspace workspace) : workspace_(std::move(workspace)) {}

  absl::Status Plan(const CudaContext& context) {
    const FlashInferBatch& batch = workspace_.batch;
    RETURN_IF_ERROR(CallFlashInfer("plan", [&] {
      return flashinfer::PrefillSM90Plan<int32_t>(
          workspace_.partial_results.data(), workspace_.partial_results.bytes(),
          workspace_.schedule.data(), workspace_.host_schedule.data(), workspace_.schedule.bytes(),
          plan_, workspace_.row_offsets.data(), workspace_.page_offsets.data(),
          workspace_.lengths.data(), batch.rows(), batch.sequences, batch.heads, batch.kv_heads,
          kHeadDim, kHeadDim, batch.page_size, /*causal=*/true, /*enable_cuda_graph=*/false,
          sizeof(Number), context.stream());
    }));
    // From some 500,000 rows on; only the other scheduler's kernel is built.
    if (!plan_.same_schedule_for_all_heads) return absl::OkStatus();
    return absl::UnimplementedError("a plan with one schedule for all heads");
  }

  absl::Status Run(const CudaContext& context, const FlashInferArgs& args) const override {
    const FlashInferBatch& batch = workspace_.batch;
    Params params = {};
    params.q_ptr = Mutable(args.queries);
    params.k_ptr = Mutable(args.keys);
    params.v_ptr = Mutable(args.values);
    params.o_ptr = Mutable(args.output);
    params.q_stride_n = args.query_stride;
    params.q_stride_h = kHeadDim;
    params.o_stride_n = int64_t{batch.heads} * kHeadDim;
    params.o_stride_h = kHeadDim;
    params.k_stride_n = params.v_stride_n = kHeadDim;
    params.k_stride_h = params.v_stride_h = int64_t{batch.page_size} * kHeadDim;
    params.k_page_stride = params.v_page_stride = args.page_stride;
    params.nnz_qo = batch.rows();
    params.num_qo_heads = batch.heads;
    params.num_kv_heads = batch.kv_heads;
    params.group_size = batch.heads / batch.kv_heads;
    params.page_size = batch.page_size;
    params.window_left = -1;
    params.causal = true;
    params.additional_params.sm_scale = args.scale;
    params.kv_indices = const_cast<int32_t*>(args.pages);
    params.qo_tile_indices = workspace_.Scheduled<int32_t>(plan_.qo_tile_indices_offset);
    params.qo_indptr = workspace_.Scheduled<int32_t>(plan_.qo_indptr_offset);
    params.kv_indptr = workspace_.Scheduled<int32_t>(plan_.kv_indptr_offset);
    params.qo_lens = workspace_.Scheduled<int32_t>(plan_.qo_len_offset);
    params.kv_lens = workspace_.Scheduled<int32_t>(plan_.kv_len_offset);
    params.head_indices = workspace_.Scheduled<int32_t>(plan_.head_indices_offset);
    params.work_indptr = workspace_.Scheduled<int32_t>(plan_.work_indptr_offset);
    params.batch_indices = workspace_.Scheduled<int32_t>(plan_.batch_indices_offset);
    return CallFlashInfer("run", [&] {
      return flashinfer::BatchPrefillWithPagedKVCacheDispatched<
          kHeadDim, kHeadDim, flashinfer::MaskMode::kCausal, /*LEFT_SLIDING_WINDOW=*/false,
          /*SAME_SCHEDULE_FOR_ALL_HEADS=*/false, flashinfer::StandardAttention>(
          params, /*enable_pdl=*/false, context.stream());
    });
  }

 private:
  using Number = cutlass::bfloat16_t;
  using Params = flashinfer::BatchPrefillPagedParams<Number, Number, Number, int32_t>;

  // FlashInfer's arguments are not const.
  static Number* Mutable(const Bf16* numbers) {
    return reinterpret_cast<Number*>(const_cast<Bf16*>(numbers));
  }

  FlashInferWorkspace workspace_;
  flashinfer::PrefillPlanSM90Info plan_;
};

template <int32_t kHeadDim>
PlannedFlashInfer PlanFa3(const CudaContext& context, const FlashInferBatch& batch) {
  ASSIGN_OR_RETURN(FlashInferWorkspace workspace, FlashInferWorkspace::Create(context, batch));
  auto kernel = std::make_unique<Fa3<kHeadDim>>(std::move(workspace));
  RETURN_IF_ERROR(kernel->Plan(context));
  return kernel;
}

}  // namespace baton::roofline
