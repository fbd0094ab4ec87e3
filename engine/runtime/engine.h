// A model, its KV cache, a scheduler and a sampler: what a worker's step loop owns.
#pragma once

#include <functional>
#include <memory>
#include <vector>

#include "absl/status/statusor.h"
#include "common/clock.h"
#include "common/step_model.h"
#include "engine/kv/kv_pool.h"
#include "engine/model/model.h"
#include "engine/runtime/leading_model.h"
#include "engine/runtime/step_sampler.h"
#include "engine/scheduler/scheduler.h"

namespace baton {

struct EngineOptions {
  ModelOptions model;
  // block_size, vocab_size and eos_tokens come from the model, and max_model_len where it is 0 here
  // or larger than the model's.
  SchedulerOptions scheduler;
  int32_t num_blocks = 0;                      // 0: as many as kv_memory_bytes hold
  int64_t kv_memory_bytes = int64_t{1} << 30;  // of all ranks together, their copies counted
  // The other ranks when model.shard.size is more than 1; this is rank 0.
  std::vector<RankLink> ranks;
  // For LoadCudaEngine. There kv_memory_bytes of 0 means all that the share leaves.
  int32_t cuda_device = 0;           // of rank 0; the others have the next ones
  double device_memory_share = 0.9;  // of a device's, for all that its process keeps there
  bool tune_products = true;         // see CudaModelOptions
  bool warm_up = true;               // Model::WarmUp, before LoadCudaEngine returns
  // On devices a decode step may start before the tokens of the one before are known.
  bool async_scheduling = true;
  bool batch_invariant = false;  // see CudaModelOptions; engines on a CPU are in any case
};

// What an engine is made of.
struct EngineParts {
  std::unique_ptr<Model> model;
  std::unique_ptr<StepSampler> sampler;        // of the model's logits; may use the model
  std::vector<std::unique_ptr<KvPool>> pools;  // one for each rank, the model's own first
  int32_t kv_copies = 1;                       // see KvMemory
  // The way to all pools of devices together. Null: that of the one pool.
  std::unique_ptr<KvStagingFactory> staging;
  int32_t max_rows_ahead = 0;  // see StepRunner
};

struct StepResult {
  std::vector<SequenceEvent> events;
  // Prompt logprobs of prompts that this step's rows computed (num_prompt_logprobs >= 0): index is
  // the position in the prompt.
  struct PromptLogprobs {
    SequenceId sequence;
    std::vector<TokenOutput> tokens;
  };
  std::vector<PromptLogprobs> prompt_logprobs;
  StepShape shape;             // empty: nothing ran
  bool started_ahead = false;  // before the step in front of it was over
};

// Called on the step thread when the KV of the step's rows is final in `layer`. The plan's rows say
// which sequences and positions; blocks stay pinned per the scheduler's rules.
using StepLayerFn = std::function<void(int32_t layer, const StepPlan& plan)>;
// What the caller of a step has to do besides, between the scheduler's Plan and Commit.
using MeanwhileFn = std::function<void()>;

// Not thread-safe: one step loop owns it.
class Engine {
 public:
  static absl::StatusOr<std::unique_ptr<Engine>> Load(const EngineOptions& options,
                                                      const LoadProgressFn& progress);
  // The same around a model that is loaded already; options.model and .ranks are not read.
  static absl::StatusOr<std::unique_ptr<Engine>> Create(std::unique_ptr<Model> model,
                                                        const EngineOptions& options);
  // `scheduler`: as SchedulerFor says.
  static std::unique_ptr<Engine> Assemble(EngineParts parts, const SchedulerOptions& scheduler);
  virtual ~Engine() = default;

  virtual const ModelInfo& model() const = 0;
  virtual const KvMemory& kv_memory() const = 0;
  virtual Scheduler& scheduler() = 0;

  // Measures how long steps take, in about `budget`; what must be measured for a model is even
  // where that takes longer. Leaves nothing behind in the scheduler. REQUIRES: no step has run.
  virtual absl::StatusOr<StepModel> Calibrate(absl::Duration budget, const Clock& clock) = 0;

  // Plan, copy blocks, forward, sample, commit. With nothing to run returns an empty result. An
  // error means that the engine is broken (the worker reports itself dead). `meanwhile` is called
  // at most once: as soon as a device has all of a decode step to do, and before any other step, as
  // prompts take long to start. Both may be null. `may_run_ahead`: nobody waits for the end
  // of this step. Then a device may be at the next one of the same rows when this returns; the
  // scheduler stays in a step, which the next call ends.
  virtual absl::StatusOr<StepResult> Step(const StepLayerFn& layer_done,
                                          const MeanwhileFn& meanwhile, bool may_run_ahead) = 0;
  absl::StatusOr<StepResult> Step(const StepLayerFn& layer_done) {
    return Step(layer_done, nullptr, /*may_run_ahead=*/false);
  }
  // A device computes steps, beside the thread that calls Step: it stands still between them.
  virtual bool on_device() const = 0;
  // Between steps, without waiting: an error is one of Step's, before a step meets it.
  virtual absl::Status Health() = 0;
};

// How a worker gets its engine: Engine::Load, or that of a device.
using EngineLoader = std::function<absl::StatusOr<std::unique_ptr<Engine>>(const EngineOptions&,
                                                                           const LoadProgressFn&)>;

// options.scheduler with what the model and its number of ranks decide. INVALID_ARGUMENT: what
// does not fit, with the numbers.
absl::StatusOr<SchedulerOptions> SchedulerFor(const Model& model, int32_t ranks,
                                              const EngineOptions& options);

}  // namespace baton
