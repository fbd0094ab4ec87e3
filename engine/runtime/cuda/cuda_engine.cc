#include "engine/runtime/cuda/cuda_engine.h"

#include <cuda_runtime.h>
#include <unistd.h>

#include <algorithm>
#include <string_view>
#include <utility>
#include <vector>

#include "absl/strings/str_cat.h"
#include "absl/strings/str_format.h"
#include "absl/time/time.h"
#include "common/check.h"
#include "common/clock.h"
#include "engine/model/cuda/cuda_kv_cache.h"
#include "engine/model/cuda/cuda_kv_staging.h"
#include "engine/model/cuda/cuda_model.h"
#include "engine/model/cuda/nccl_communicator.h"
#include "engine/runtime/cuda/cuda_step_sampler.h"
#include "engine/runtime/rank_server.h"

namespace baton {
namespace {

constexpr int32_t kMaxSequences = 65535;  // of a step on the device
constexpr int32_t kMaxDrawsAtOnce = 256;

// What the scheduler may put into one step.
absl::StatusOr<CudaModelOptions> LargestStep(const EngineOptions& options) {
  const SchedulerOptions& scheduler = options.scheduler;
  const ModelShard& shard = options.model.shard;
  CudaModelOptions cuda{.device = options.cuda_device + shard.rank,
                        .max_batch_tokens = scheduler.max_batch_tokens,
                        .max_positions = scheduler.max_model_len,
                        .tune_products = options.tune_products,
                        .batch_invariant = options.batch_invariant,
                        .logits_stay = true};
  if (!shard.IsWhole()) cuda.connect = ConnectNccl;
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

// Before minutes are spent on weights.
absl::Status CheckDevices(const EngineOptions& options) {
  const int32_t ranks = options.model.shard.size;
  if (ranks == 1) return absl::OkStatus();
  int count = 0;
  if (cudaGetDeviceCount(&count) != cudaSuccess) cudaGetLastError();  // there are none
  const int32_t last = options.cuda_device + ranks - 1;
  // Of a first one that is not there CudaContext says why.
  if (options.cuda_device < count && last >= count) {
    return absl::NotFoundError(
        absl::StrCat("tensor_parallel: ", ranks, " ranks from cuda:", options.cuda_device,
                     " on need cuda:", last, "; there are ", count,
                     " CUDA devices here: lower tensor_parallel, let device be an "
                     "earlier one, or see whether CUDA_VISIBLE_DEVICES hides some"));
  }
  return CheckNccl();
}

// How many KV blocks what a rank leaves of its share of its device holds.
absl::StatusOr<int32_t> CountRoom(const EngineOptions& options, const Model& model,
                                  int64_t used_bytes) {
  return CudaKvBlocksThatFit(options.cuda_device + options.model.shard.rank, model.kv_layout(),
                             options.device_memory_share, used_bytes);
}

// The pools of the other ranks, and a way to all.
absl::Status AttachToRanks(const EngineOptions& options, int32_t num_blocks, const CudaKvCache& own,
                           LeadingModel* model, EngineParts* parts) {
  std::vector<CudaKvPart> of_ranks = {own.part()};
  const auto attach = [&](int32_t rank,
                          std::string_view handle) -> absl::StatusOr<std::unique_ptr<KvPool>> {
    ASSIGN_OR_RETURN(
        std::unique_ptr<CudaKvCache> pool,
        CudaKvCache::Attach(options.cuda_device + rank, own.layout(), num_blocks, handle));
    of_ranks.push_back(pool->part());
    return pool;
  };
  ASSIGN_OR_RETURN(std::vector<std::unique_ptr<KvPool>> others,
                   model->CreatePools(num_blocks, attach));
  for (auto& pool : others) parts->pools.push_back(std::move(pool));
  parts->kv_copies = options.model.shard.KvCopies(model->info().num_kv_heads);
  parts->staging = std::make_unique<CudaKvStagingFactory>(std::move(of_ranks), parts->kv_copies);
  return absl::OkStatus();
}

absl::Status WarmUp(const EngineOptions& options, const SchedulerOptions& scheduler,
                    const KvRegion& kv, Model* model) {
  const absl::Time begin = MonotonicClock().Now();
  ASSIGN_OR_RETURN(
      const int32_t kinds,
      model->WarmUp(std::min(scheduler.max_batch_sequences, scheduler.max_batch_tokens), kv));
  if (!options.model.note) return absl::OkStatus();
  options.model.note(
      {.event = "decode steps captured",
       .why = absl::StrFormat("%d kinds of them in %.2f s", kinds,
                              absl::ToDoubleSeconds(MonotonicClock().Now() - begin))});
  return absl::OkStatus();
}

}  // namespace

absl::StatusOr<std::unique_ptr<Engine>> LoadCudaEngine(const EngineOptions& options,
                                                       const LoadProgressFn& progress) {
  const int32_t ranks = options.model.shard.size;
  BATON_CHECK(options.ranks.size() + 1 == static_cast<size_t>(ranks)) << options.ranks.size();
  RETURN_IF_ERROR(CheckDevices(options));
  ASSIGN_OR_RETURN(const CudaModelOptions cuda, LargestStep(options));
  ASSIGN_OR_RETURN(std::unique_ptr<CudaModel> model, LoadCudaModel(options.model, cuda, progress));
  const int32_t draws = std::clamp(options.scheduler.max_batch_sequences, 1, kMaxDrawsAtOnce);
  ASSIGN_OR_RETURN(std::unique_ptr<CudaStepSampler> sampler,
                   CudaStepSampler::Create(model.get(), draws));
  const int64_t used_bytes = model->device_bytes() + sampler->device_bytes();
  EngineParts parts;
  parts.sampler = std::move(sampler);
  if (options.async_scheduling) parts.max_rows_ahead = draws;
  LeadingModel* leading = nullptr;
  if (ranks == 1) {
    parts.model = std::move(model);
  } else {
    auto group = std::make_unique<LeadingModel>(std::move(model), options.ranks);
    leading = group.get();
    parts.model = std::move(group);
  }

  EngineOptions sized = options;
  if (sized.num_blocks == 0 && sized.kv_memory_bytes == 0) {
    ASSIGN_OR_RETURN(sized.num_blocks, CountRoom(options, *parts.model, used_bytes));
    if (leading != nullptr) {
      ASSIGN_OR_RETURN(const int32_t of_others, leading->CountRoom());
      sized.num_blocks = std::min(sized.num_blocks, of_others);
    }
  }
  ASSIGN_OR_RETURN(const SchedulerOptions scheduler, SchedulerFor(*parts.model, ranks, sized));
  const int32_t num_blocks = scheduler.num_blocks;
  ASSIGN_OR_RETURN(std::unique_ptr<CudaKvCache> cache,
                   CudaKvCache::Create(cuda.device, parts.model->kv_layout(), num_blocks));
  const CudaKvCache& own = *cache;
  parts.pools.push_back(std::move(cache));
  if (leading != nullptr) {
    RETURN_IF_ERROR(AttachToRanks(options, num_blocks, own, leading, &parts));
  }
  if (options.warm_up) {
    RETURN_IF_ERROR(WarmUp(options, scheduler, own.region(), parts.model.get()));
  }
  return Engine::Assemble(std::move(parts), scheduler);
}

absl::Status ServeCudaRank(const EngineOptions& options, const RankLink& link) {
  RankChannel channel(link.channel_fd);
  close(link.kv_fd);  // KV is on the device
  RETURN_IF_ERROR(CheckDevices(options));
  ASSIGN_OR_RETURN(const CudaModelOptions cuda, LargestStep(options));
  ASSIGN_OR_RETURN(std::unique_ptr<CudaModel> model, LoadCudaModel(options.model, cuda, nullptr));
  RankParts parts;
  parts.make_pool = [device = cuda.device, layout = model->kv_layout()](
                        int32_t num_blocks) -> absl::StatusOr<RankParts::Pool> {
    ASSIGN_OR_RETURN(std::unique_ptr<CudaKvCache> cache,
                     CudaKvCache::Create(device, layout, num_blocks));
    ASSIGN_OR_RETURN(std::string handle, cache->Share());
    return RankParts::Pool{.pool = std::move(cache), .handle = std::move(handle)};
  };
  parts.count_room = [&options, loaded = model.get()] {
    return CountRoom(options, *loaded, loaded->device_bytes());
  };
  parts.model = std::move(model);
  return ServeRankOf(std::move(parts), &channel);
}

}  // namespace baton
