// Carries out one step of a scheduler on a model: plan → copy blocks → forward → draw → commit.
#pragma once

#include <vector>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "common/kv_layout.h"
#include "engine/model/model.h"
#include "engine/runtime/engine.h"
#include "engine/sampling/sampler.h"
#include "engine/scheduler/scheduler.h"

namespace baton {

// Borrows everything, `kv` included; not thread-safe. After an error the step is neither done nor
// undone: the engine cannot go on. Allocates nothing itself once it has seen the largest step, but
// for log-probabilities that were asked for.
class StepRunner {
 public:
  StepRunner(Model* model, const KvRegion& kv, Scheduler* scheduler);

  absl::StatusOr<StepResult> Run(const StepLayerFn& layer_done);

 private:
  absl::Status Forward(const StepPlan& plan, const StepLayerFn& layer_done);
  absl::Status DrawRow(const StepPlan::Row& row, int32_t first_logits_row,
                       std::vector<SampledToken>* drawn);
  absl::Status ScorePrompt(const StepPlan::Row& row, int32_t first_logits_row, StepResult* result);

  Model& model_;
  const KvRegion& kv_;
  Scheduler& scheduler_;
  Sampler sampler_;
  // Scratch of one step; grows to the largest seen.
  std::vector<ForwardSequence> batch_;
  std::vector<std::vector<SampledToken>> drawn_;  // [rows, samples of a row]; more than a step has
  Logits logits_;
};

}  // namespace baton
