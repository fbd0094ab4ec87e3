#include "engine/runtime/engine.h"

#include <algorithm>
#include <limits>
#include <utility>

#include "absl/strings/str_cat.h"
#include "common/check.h"
#include "engine/runtime/calibration.h"
#include "engine/runtime/step_runner.h"

namespace baton {

namespace {

class PagedEngine final : public Engine {
 public:
  PagedEngine(std::unique_ptr<Model> model, std::unique_ptr<KvCache> kv,
              const SchedulerOptions& options)
      : model_(std::move(model)),
        kv_(std::move(kv)),
        limits_{.max_batch_tokens = options.max_batch_tokens,
                .max_batch_sequences = options.max_batch_sequences,
                .max_model_len = options.max_model_len,
                .num_blocks = options.num_blocks,
                .block_size = options.block_size},
        scheduler_(Scheduler::Create(options)),
        runner_(model_.get(), kv_->region(), scheduler_.get()) {}

  const ModelInfo& model() const override { return model_->info(); }
  const KvRegion& kv_region() const override { return kv_->region(); }
  Scheduler& scheduler() override { return *scheduler_; }
  absl::StatusOr<StepModel> Calibrate(absl::Duration budget, const Clock& clock) override {
    const std::vector<CalibrationPoint> grid = CalibrationGrid(limits_);
    TouchCalibrationBlocks(grid, kv_->region());
    Logits logits;
    return baton::Calibrate(grid, budget, clock, [&](const CalibrationPoint& point) {
      return RunCalibrationPoint(point, kv_->region(), model_.get(), &logits);
    });
  }
  absl::StatusOr<StepResult> Step(const StepLayerFn& layer_done) override {
    return runner_.Run(layer_done);
  }

 private:
  const std::unique_ptr<Model> model_;
  const std::unique_ptr<KvCache> kv_;
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

}  // namespace

absl::StatusOr<std::unique_ptr<Engine>> Engine::Load(const EngineOptions& options,
                                                     const LoadProgressFn& progress) {
  ASSIGN_OR_RETURN(std::unique_ptr<Model> model, Model::Load(options.model, progress));
  return Create(std::move(model), options);
}

absl::StatusOr<std::unique_ptr<Engine>> Engine::Create(std::unique_ptr<Model> model,
                                                       const EngineOptions& options) {
  RETURN_IF_ERROR(CheckLimits(options.scheduler));
  const KvLayout layout = model->kv_layout();
  const ModelInfo& info = model->info();
  SchedulerOptions scheduler = options.scheduler;
  scheduler.block_size = layout.block_size;
  scheduler.vocab_size = info.vocab_size;
  scheduler.eos_tokens = info.eos_tokens;
  scheduler.max_model_len = options.scheduler.max_model_len > 0
                                ? std::min(options.scheduler.max_model_len, info.max_model_len)
                                : info.max_model_len;
  ASSIGN_OR_RETURN(scheduler.num_blocks, NumBlocks(options, layout));
  ASSIGN_OR_RETURN(std::unique_ptr<KvCache> kv, KvCache::Create(layout, scheduler.num_blocks));
  return std::make_unique<PagedEngine>(std::move(model), std::move(kv), scheduler);
}

}  // namespace baton
