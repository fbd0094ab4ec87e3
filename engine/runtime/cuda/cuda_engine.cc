#include "engine/runtime/cuda/cuda_engine.h"

#include <algorithm>
#include <utility>

#include "common/check.h"
#include "engine/model/cuda/cuda_kv_cache.h"
#include "engine/model/cuda/cuda_model.h"
#include "engine/runtime/cuda/cuda_step_sampler.h"

namespace baton {
namespace {

constexpr int32_t kMaxSequences = 65535;  // of a step on the device
constexpr int32_t kMaxDrawsAtOnce = 256;

// What the scheduler may put into one step.
absl::StatusOr<CudaModelOptions> LargestStep(const EngineOptions& options) {
  const SchedulerOptions& scheduler = options.scheduler;
  CudaModelOptions cuda{.device = options.cuda_device,
                        .max_batch_tokens = scheduler.max_batch_tokens,
                        .max_positions = scheduler.max_model_len,
                        .logits_stay = true};
  if (scheduler.chunking == Chunking::kOff) {
    // A prompt is one step then, however long it is.
    if (scheduler.max_model_len == 0) {
      return absl::InvalidArgumentError(
          "whole prompts (chunked_prefill off) on CUDA: give max_model_len, for which room is set "
          "aside");
    }
    cuda.max_batch_tokens = std::max(cuda.max_batch_tokens, scheduler.max_model_len);
  }
  cuda.max_sequences = std::min(cuda.max_batch_tokens, kMaxSequences);
  cuda.max_logit_rows = cuda.max_batch_tokens;  // a prompt's log-probabilities may be asked for
  return cuda;
}

}  // namespace

absl::StatusOr<std::unique_ptr<Engine>> LoadCudaEngine(const EngineOptions& options,
                                                       const LoadProgressFn& progress) {
  ASSIGN_OR_RETURN(const CudaModelOptions cuda, LargestStep(options));
  ASSIGN_OR_RETURN(std::unique_ptr<CudaModel> model, LoadCudaModel(options.model, cuda, progress));
  const int32_t draws = std::clamp(options.scheduler.max_batch_sequences, 1, kMaxDrawsAtOnce);
  ASSIGN_OR_RETURN(std::unique_ptr<CudaStepSampler> sampler,
                   CudaStepSampler::Create(model.get(), draws));

  EngineOptions sized = options;
  const KvLayout layout = model->kv_layout();
  if (sized.num_blocks == 0 && sized.kv_memory_bytes == 0) {
    ASSIGN_OR_RETURN(sized.num_blocks,
                     CudaKvBlocksThatFit(cuda.device, layout, options.device_memory_share,
                                         model->device_bytes() + sampler->device_bytes()));
  }
  ASSIGN_OR_RETURN(const SchedulerOptions scheduler, SchedulerFor(*model, /*ranks=*/1, sized));
  ASSIGN_OR_RETURN(std::unique_ptr<CudaKvCache> cache,
                   CudaKvCache::Create(cuda.device, layout, scheduler.num_blocks));
  EngineParts parts;
  parts.pools.push_back(std::move(cache));
  parts.sampler = std::move(sampler);
  parts.model = std::move(model);
  return Engine::Assemble(std::move(parts), scheduler);
}

}  // namespace baton
