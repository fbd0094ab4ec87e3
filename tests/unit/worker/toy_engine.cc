#include "tests/unit/worker/toy_engine.h"

#include <cstring>
#include <utility>

#include "absl/strings/str_cat.h"
#include "engine/kv/kv_cache.h"

namespace baton {
namespace {

constexpr int32_t kHeadDim = 4;

class ToyEngine final : public Engine {
 public:
  explicit ToyEngine(const ToyEngineOptions& options) : options_(options) {
    const KvLayout layout{.num_layers = options.num_layers,
                          .num_kv_heads = 1,
                          .head_dim = kHeadDim,
                          .block_size = kToyBlockSize};
    layers_.assign(
        static_cast<size_t>(options.num_layers),
        std::vector<std::byte>(static_cast<size_t>(options.num_blocks * layout.BlockBytes())));
    region_ = {.layout = layout, .num_blocks = options.num_blocks};
    for (auto& layer : layers_) region_.layer_base.push_back(layer.data());
    memory_ = JoinKvRegions({region_});
    model_ = {.name = "toy",
              .architecture = "Toy",
              .weight_dtype = "none",
              .num_layers = options.num_layers,
              .num_kv_heads = 1,
              .head_dim = kHeadDim,
              .vocab_size = kToyVocab,
              .max_model_len = options.max_model_len,
              .fingerprint = options.fingerprint,
              .eos_tokens = {kToyEos},
              .kernels = "none"};
    SchedulerOptions scheduler = options.scheduler;
    scheduler.block_size = kToyBlockSize;
    scheduler.num_blocks = options.num_blocks;
    scheduler.max_model_len = options.max_model_len;
    scheduler.eos_tokens = {kToyEos};
    scheduler_ = Scheduler::Create(scheduler);
  }

  const ModelInfo& model() const override { return model_; }
  const KvMemory& kv_memory() const override { return memory_; }
  Scheduler& scheduler() override { return *scheduler_; }

  absl::StatusOr<StepModel> Calibrate(absl::Duration, const Clock&) override {
    if (!options_.step_model.known()) return absl::FailedPreconditionError("not asked for");
    return options_.step_model;
  }

  absl::Status Health() override { return options_.health ? options_.health() : absl::OkStatus(); }

  bool on_device() const override { return options_.on_device; }

  absl::StatusOr<StepResult> Step(const StepLayerFn& layer_done, const MeanwhileFn& meanwhile,
                                  bool may_run_ahead) override {
    const StepPlan& plan = scheduler_->Plan();
    if (plan.empty()) return StepResult{.events = scheduler_->TakeEvents()};
    // A device that takes its time: what was planned ahead is computed once the host knows more.
    const std::vector<std::vector<BlockId>> tables = std::exchange(tables_ahead_, {});
    if (options_.on_device && may_run_ahead) {
      for (const StepPlan::Row& row : scheduler_->PlanAhead().rows) {
        tables_ahead_.emplace_back(row.block_table.begin(), row.block_table.end());
      }
    }
    if (options_.on_device && meanwhile) meanwhile();
    if (options_.on_step) {
      if (absl::Status status = options_.on_step(); !status.ok()) return status;
    }
    const auto block_bytes = static_cast<size_t>(region_.layout.BlockBytes());
    for (const KvBlockCopy& copy : plan.copies) {
      for (int32_t layer = 0; layer < options_.num_layers; ++layer) {
        std::memcpy(region_.Block(layer, copy.to), region_.Block(layer, copy.from), block_bytes);
      }
    }
    StepResult result{.shape = plan.Shape(), .started_ahead = !tables.empty()};
    std::vector<std::vector<TokenId>> tokens;
    std::vector<std::vector<SampledToken>> sampled;
    for (size_t i = 0; i < plan.rows.size(); ++i) {
      const StepPlan::Row& row = plan.rows[i];
      const auto end = static_cast<size_t>(row.start_position) + row.tokens.size();
      std::span<const TokenId> all;
      if (!row.block_table.empty()) all = scheduler_->Tokens(row.sequence, row.branch);
      if (all.size() < end) {  // it has ended, or is to end with this step
        SpoilNextToken(tables[i], row.start_position);
        tokens.emplace_back();
        sampled.emplace_back().resize(1);
        continue;
      }
      tokens.emplace_back(all.begin(), all.begin() + static_cast<ptrdiff_t>(end));
      std::vector<SampledToken>& draws = sampled.emplace_back();
      for (size_t draw = 0; draw < static_cast<size_t>(row.num_samples); ++draw) {
        draws.push_back(
            {.token = sim::ToyNextToken(scheduler_->Spec(row.sequence), tokens.back(), draw)});
      }
    }
    for (int32_t layer = 0; layer < options_.num_layers; ++layer) {
      for (size_t i = 0; i < plan.rows.size(); ++i) {
        if (absl::Status status = ForwardRow(layer, plan.rows[i], tokens[i]); !status.ok()) {
          return status;
        }
      }
      if (options_.on_layer) options_.on_layer(layer);
      if (layer_done) layer_done(layer, plan);
    }
    result.events = scheduler_->Commit(sampled);
    return result;
  }

 private:
  // What a device computes for a row whose branch has ended meanwhile is of no use, but it is
  // written.
  void SpoilNextToken(std::span<const BlockId> table, int32_t position) const {
    const BlockId block = table[static_cast<size_t>(position / kToyBlockSize)];
    for (int32_t layer = 0; layer < options_.num_layers; ++layer) {
      std::memset(
          region_.Block(layer, block) + position % kToyBlockSize * int32_t{sizeof(uint64_t)}, 0xdd,
          sizeof(uint64_t));
    }
  }

  // Writes the KV of the row's tokens and checks that of the tokens before them.
  absl::Status ForwardRow(int32_t layer, const StepPlan::Row& row,
                          std::span<const TokenId> tokens) const {
    uint64_t prefix = sim::kToyNoTokens;
    for (size_t i = 0; i < tokens.size(); ++i) {
      prefix = sim::ToyPrefix(prefix, tokens[i]);
      const uint64_t right = sim::ToyKv(prefix, layer);
      static_assert(kHeadDim * 2 == sizeof(right));  // K of one token: head_dim bf16 numbers
      std::byte* slot = region_.Block(layer, row.block_table[i / kToyBlockSize]) +
                        (i % kToyBlockSize) * sizeof(right);
      if (static_cast<int32_t>(i) >= row.start_position) {
        std::memcpy(slot, &right, sizeof(right));
      } else if (std::memcmp(slot, &right, sizeof(right)) != 0) {
        return absl::DataLossError(
            absl::StrCat("layer ", layer, " position ", i, " holds the KV of other tokens"));
      }
    }
    return absl::OkStatus();
  }

  const ToyEngineOptions options_;
  std::vector<std::vector<std::byte>> layers_;  // [num_layers][num_blocks * BlockBytes]
  KvRegion region_;
  KvMemory memory_;
  ModelInfo model_;
  std::vector<std::vector<BlockId>> tables_ahead_;  // of the step that PlanAhead gave
  std::unique_ptr<Scheduler> scheduler_;
};

}  // namespace

std::unique_ptr<Engine> MakeToyEngine(const ToyEngineOptions& options) {
  return std::make_unique<ToyEngine>(options);
}

}  // namespace baton
