// What a model on a GPU does before its first step: memory, and the ways of its products.
#include <algorithm>
#include <cstdint>
#include <memory>
#include <utility>
#include <vector>

#include "common/check.h"
#include "engine/model/cuda/cuda_transformer.h"

namespace baton {

template <typename T>
absl::Status CudaTransformer::Allocate(size_t size, DeviceArray<T>* array) {
  ASSIGN_OR_RETURN(*array, DeviceArray<T>::Create(size));
  scratch_bytes_ += static_cast<int64_t>(array->bytes());
  return absl::OkStatus();
}

absl::StatusOr<std::unique_ptr<CudaTransformer>> CudaTransformer::Create(Parts parts) {
  ASSIGN_OR_RETURN(CudaStepInputs step_inputs, CudaStepInputs::Create(parts.limits));
  std::unique_ptr<CudaTransformer> model(
      new CudaTransformer(std::move(parts), std::move(step_inputs)));
  RETURN_IF_ERROR(model->AllocateScratch());
  if (model->parts_.step_times != nullptr) {
    ASSIGN_OR_RETURN(model->timer_, CudaTimer::Create());
  }
  if (model->parts_.tune_products) RETURN_IF_ERROR(model->TuneProducts());
  RETURN_IF_ERROR(model->context().Synchronize());
  // From here on weights do not change.
  model->parts_.context->SetDependentLaunches(model->parts_.dependent_launch);
  return model;
}

absl::Status CudaTransformer::AllocateScratch() {
  const ModelConfig& c = heads_;
  const CudaStepLimits& limits = parts_.limits;
  const int32_t rows = limits.max_rows;
  const int32_t logit_rows = limits.max_logit_rows;
  rows_.Reserve(rows, limits.max_sequences);
  RETURN_IF_ERROR(Allocate(Product(rows, c.hidden_size), &residual_));
  RETURN_IF_ERROR(Allocate(Product(rows, std::max(c.hidden_size, c.QSize())), &activation_));
  RETURN_IF_ERROR(Allocate(Product(rows, c.QSize() + 2 * c.KvSize()), &qkv_));
  // Batch-invariant products are gated by the kernels that compute them.
  if (!parts_.batch_invariant) RETURN_IF_ERROR(Allocate(Product(rows, 2 * inner_), &gate_up_));
  RETURN_IF_ERROR(Allocate(Product(rows, inner_), &gated_));
  RETURN_IF_ERROR(Allocate(Product(logit_rows, c.hidden_size), &logit_residual_));
  RETURN_IF_ERROR(Allocate(Product(logit_rows, parts_.weights.logits.n()), &logits_));
  if (!IsWhole()) RETURN_IF_ERROR(Allocate(Product(logit_rows, c.vocab_size), &joined_logits_));
  if (!IsWhole() && LeadsRanks()) {
    RETURN_IF_ERROR(Allocate(Product(logit_rows, c.vocab_size), &ordered_logits_));
  }
  if (!parts_.logits_stay && LeadsRanks()) {
    ASSIGN_OR_RETURN(host_logits_, PinnedArray<float>::Create(Product(logit_rows, c.vocab_size)));
  }
  const auto attention_bytes = [&](int32_t sequences) {
    return DecodeAttentionScratchBytes(sequences * limits.decode_rows, c.num_heads, c.head_dim,
                                       limits.max_positions);
  };
  const size_t scratch_bytes =
      std::max(attention_bytes(1),
               std::min(attention_bytes(limits.max_sequences), parts_.attention_scratch_bytes));
  RETURN_IF_ERROR(Allocate(scratch_bytes, &attention_scratch_));
  RETURN_IF_ERROR(Allocate(static_cast<size_t>(c.num_layers), &layer_bases_));
  RETURN_IF_ERROR(Allocate(kCopiesAtOnce, &block_copies_));
  for (int32_t layer = 0; layer < c.num_layers; ++layer) {
    ASSIGN_OR_RETURN(CudaEvent event, CudaEvent::Create());
    kv_written_.push_back(std::move(event));
  }
  RETURN_IF_ERROR(ReserveForProducts());
  const std::vector<float> frequencies = InverseFrequencies(c.rope, c.head_dim);
  RETURN_IF_ERROR(Allocate(frequencies.size(), &inverse_frequencies_));
  Upload(context(), frequencies, &inverse_frequencies_);
  return context().status();
}

absl::StatusOr<int32_t> CudaTransformer::WarmUp(int32_t max_sequences, const KvRegion& kv) {
  if (!parts_.use_graphs) return 0;
  RETURN_IF_ERROR(context().MakeCurrent());
  RETURN_IF_ERROR(CheckRegion(kv));
  RETURN_IF_ERROR(rows_.Fill({}, kv, heads_));
  const std::vector<CudaStepShape> buckets = DecodeBuckets(max_sequences, parts_.limits);
  for (const CudaStepShape& bucket : buckets) {
    for (int run = 0; run < 2; ++run) {
      const absl::Status enqueued = EnqueueAs(bucket, /*as_graph=*/true, kv);
      step_.kv = nullptr;
      RETURN_IF_ERROR(enqueued);
    }
  }
  RETURN_IF_ERROR(context().Synchronize());
  return static_cast<int32_t>(buckets.size());
}

int64_t CudaTransformer::device_bytes() const {
  return parts_.weights.bytes + scratch_bytes_ + linear_.scratch_bytes() +
         step_inputs_.device_bytes() + int64_t{CudaContext::kWorkspaceBytes} +
         (IsWhole() ? 0 : parts_.ranks->device_bytes());
}

absl::Status CudaTransformer::ReserveForProducts() {
  const CudaLayerWeights& layer = Layer(0);  // all are alike
  for (const CudaMatrix* matrix : {&layer.qkv, &layer.output, &layer.gate_up, &layer.down}) {
    RETURN_IF_ERROR(linear_.Reserve(*matrix, parts_.limits.max_rows));
  }
  return linear_.Reserve(parts_.weights.logits, parts_.limits.max_logit_rows);
}

// From the most rows down: by the time that the shortest are timed the device's clocks have risen.
absl::Status CudaTransformer::TuneProducts() {
  const auto buckets_up_to = [](int32_t rows) {
    std::vector<int32_t> buckets;
    for (int32_t bucket = 0; bucket < rows;) {
      bucket = ProductPlans::RowsBucket(bucket + 1);
      buckets.push_back(bucket);
    }
    std::ranges::reverse(buckets);
    return buckets;
  };
  const std::vector<int32_t> rows = buckets_up_to(parts_.limits.max_rows);
  const CudaLayerWeights& layer = Layer(0);  // all are alike
  RETURN_IF_ERROR(linear_.TunePlans(layer.qkv, CudaEpilogue::kStoreBf16, rows));
  RETURN_IF_ERROR(linear_.TunePlans(layer.output, IntoResidual(), rows));
  RETURN_IF_ERROR(linear_.TunePlans(layer.gate_up, GateUpEpilogue(), rows));
  RETURN_IF_ERROR(linear_.TunePlans(layer.down, IntoResidual(), rows));
  return linear_.TunePlans(parts_.weights.logits, CudaEpilogue::kStoreF32,
                           buckets_up_to(parts_.limits.max_logit_rows));
}

}  // namespace baton
