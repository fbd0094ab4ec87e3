#include "engine/runtime/engine.h"

#include <algorithm>
#include <limits>
#include <utility>

#include "absl/strings/str_cat.h"
#include "common/check.h"
#include "engine/kv/kv_cache.h"
#include "engine/runtime/calibration.h"
#include "engine/runtime/step_runner.h"

namespace baton {

namespace {

class PagedEngine final : public Engine {
 public:
  PagedEngine(EngineParts parts, const SchedulerOptions& options)
      : model_(std::move(parts.model)),
        pools_(std::move(parts.pools)),
        staging_(std::move(parts.staging)),
        sampler_(std::move(parts.sampler)),
        kv_memory_(MemoryOf(pools_, parts.kv_copies, staging_.get())),
        limits_{
            .max_batch_tokens = options.max_batch_tokens,
            // A row is a token at least.
            .max_batch_sequences = std::min(options.max_batch_sequences, options.max_batch_tokens),
            .max_model_len = options.max_model_len,
            .num_blocks = options.num_blocks,
            .block_size = options.block_size},
        scheduler_(Scheduler::Create(options)),
        runner_(model_.get(), Region(), scheduler_.get(), sampler_.get(), parts.max_rows_ahead) {}

  const ModelInfo& model() const override { return model_->info(); }
  const KvMemory& kv_memory() const override { return kv_memory_; }
  Scheduler& scheduler() override { return *scheduler_; }
  absl::StatusOr<StepModel> Calibrate(absl::Duration budget, const Clock& clock) override {
    const std::vector<CalibrationPoint> grid = CalibrationGrid(limits_);
    if (kv_memory_.staging == nullptr) TouchCalibrationBlocks(grid, Region());
    Logits logits;
    return baton::Calibrate(grid, budget, clock, [&](const CalibrationPoint& point) {
      return RunCalibrationPoint(point, Region(), model_.get(), sampler_.get(), &logits);
    });
  }
  absl::StatusOr<StepResult> Step(const StepLayerFn& layer_done, const MeanwhileFn& meanwhile,
                                  bool may_run_ahead) override {
    return runner_.Run(layer_done, meanwhile, may_run_ahead);
  }
  bool on_device() const override { return sampler_->on_device(); }
  absl::Status Health() override { return model_->Health(); }

 private:
  static KvMemory MemoryOf(const std::vector<std::unique_ptr<KvPool>>& pools, int32_t copies,
                           KvStagingFactory* of_all) {
    std::vector<KvRegion> regions;
    for (const auto& pool : pools) regions.push_back(pool->region());
    KvMemory memory = JoinKvRegions(std::move(regions), copies);
    memory.staging = of_all != nullptr ? of_all : pools[0]->staging();
    return memory;
  }
  const KvRegion& Region() const { return pools_[0]->region(); }  // of this process

  const std::unique_ptr<Model> model_;
  const std::vector<std::unique_ptr<KvPool>> pools_;  // attached to ranks that the model keeps
  const std::unique_ptr<KvStagingFactory> staging_;   // of pools_; may be null
  const std::unique_ptr<StepSampler> sampler_;
  const KvMemory kv_memory_;
  const CalibrationLimits limits_;
  const std::unique_ptr<Scheduler> scheduler_;
  StepRunner runner_;
};

absl::StatusOr<int32_t> NumBlocks(const EngineOptions& options, const KvLayout& layout) {
  if (options.num_blocks > 0) return options.num_blocks;
  const int64_t block_bytes = layout.BlockBytes() * layout.num_layers;
  const int64_t blocks = options.kv_memory_bytes / block_bytes;
  if (blocks < 1) {
    return absl::InvalidArgumentError(absl::StrCat("kv_memory_bytes is ", options.kv_memory_bytes,
                                                   ", one KV block of this model takes ",
                                                   block_bytes));
  }
  return static_cast<int32_t>(std::min<int64_t>(blocks, std::numeric_limits<int32_t>::max()));
}

absl::Status CheckLimits(const SchedulerOptions& options) {
  const auto positive = [](const char* field, int32_t value) {
    return value > 0 ? absl::OkStatus()
                     : absl::InvalidArgumentError(
                           absl::StrCat(field, " is ", value, ", must be at least 1"));
  };
  RETURN_IF_ERROR(positive("max_batch_sequences", options.max_batch_sequences));
  RETURN_IF_ERROR(positive("max_batch_tokens", options.max_batch_tokens));
  RETURN_IF_ERROR(positive("prefill_chunk_tokens", options.prefill_chunk_tokens));
  return positive("max_waiting", options.max_waiting);
}

std::unique_ptr<Engine> OnHost(std::unique_ptr<Model> model, EngineParts parts,
                               const SchedulerOptions& scheduler) {
  parts.sampler = std::make_unique<HostStepSampler>(model->info().vocab_size);
  parts.model = std::move(model);
  return Engine::Assemble(std::move(parts), scheduler);
}

}  // namespace

absl::StatusOr<SchedulerOptions> SchedulerFor(const Model& model, int32_t ranks,
                                              const EngineOptions& options) {
  RETURN_IF_ERROR(CheckLimits(options.scheduler));
  KvLayout layout = model.kv_layout();
  layout.num_kv_heads *= ranks;  // copies of heads take memory, too
  const ModelInfo& info = model.info();
  SchedulerOptions scheduler = options.scheduler;
  scheduler.block_size = layout.block_size;
  scheduler.vocab_size = info.vocab_size;
  scheduler.eos_tokens = info.eos_tokens;
  scheduler.max_model_len = options.scheduler.max_model_len > 0
                                ? std::min(options.scheduler.max_model_len, info.max_model_len)
                                : info.max_model_len;
  ASSIGN_OR_RETURN(scheduler.num_blocks, NumBlocks(options, layout));
  return scheduler;
}

absl::StatusOr<std::unique_ptr<Engine>> Engine::Load(const EngineOptions& options,
                                                     const LoadProgressFn& progress) {
  const int32_t ranks = options.model.shard.size;
  BATON_CHECK(options.ranks.size() + 1 == static_cast<size_t>(ranks)) << options.ranks.size();
  ASSIGN_OR_RETURN(std::unique_ptr<Model> model, Model::Load(options.model, progress));
  if (ranks == 1) return Create(std::move(model), options);
  ASSIGN_OR_RETURN(const SchedulerOptions scheduler, SchedulerFor(*model, ranks, options));
  auto leading = std::make_unique<LeadingModel>(std::move(model), options.ranks);
  EngineParts parts;
  parts.kv_copies = options.model.shard.KvCopies(leading->info().num_kv_heads);
  ASSIGN_OR_RETURN(std::unique_ptr<KvCache> own,
                   KvCache::Create(leading->kv_layout(), scheduler.num_blocks));
  parts.pools.push_back(std::move(own));
  const auto attach = [&](int32_t rank,
                          std::string_view) -> absl::StatusOr<std::unique_ptr<KvPool>> {
    return KvCache::Attach(leading->kv_layout(), scheduler.num_blocks,
                           options.ranks[static_cast<size_t>(rank) - 1].kv_fd);
  };
  ASSIGN_OR_RETURN(std::vector<std::unique_ptr<KvPool>> others,
                   leading->CreatePools(scheduler.num_blocks, attach));
  for (auto& pool : others) parts.pools.push_back(std::move(pool));
  return OnHost(std::move(leading), std::move(parts), scheduler);
}

absl::StatusOr<std::unique_ptr<Engine>> Engine::Create(std::unique_ptr<Model> model,
                                                       const EngineOptions& options) {
  ASSIGN_OR_RETURN(const SchedulerOptions scheduler, SchedulerFor(*model, /*ranks=*/1, options));
  EngineParts parts;
  ASSIGN_OR_RETURN(std::unique_ptr<KvCache> cache,
                   KvCache::Create(model->kv_layout(), scheduler.num_blocks));
  parts.pools.push_back(std::move(cache));
  return OnHost(std::move(model), std::move(parts), scheduler);
}

std::unique_ptr<Engine> Engine::Assemble(EngineParts parts, const SchedulerOptions& scheduler) {
  return std::make_unique<PagedEngine>(std::move(parts), scheduler);
}

}  // namespace baton
