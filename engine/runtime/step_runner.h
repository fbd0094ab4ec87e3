// Carries out one step of a scheduler on a model: plan → copy blocks → forward → draw → commit. On
// a device the next step may start before what this one has drawn is known to the host.
#pragma once

#include <span>
#include <vector>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "common/kv_layout.h"
#include "engine/model/model.h"
#include "engine/runtime/engine.h"
#include "engine/runtime/step_sampler.h"
#include "engine/scheduler/scheduler.h"

namespace baton {

// Borrows everything, `kv` included; not thread-safe. After an error the step is neither done nor
// undone: the engine cannot go on. Allocates nothing itself once it has seen the largest step, but
// for log-probabilities that were asked for.
class StepRunner {
 public:
  // `max_rows_ahead`: of a step behind which the next one may start before its end; 0: none may.
  StepRunner(Model* model, const KvRegion& kv, Scheduler* scheduler, StepSampler* sampler,
             int32_t max_rows_ahead = 0);

  // See Engine::Step.
  absl::StatusOr<StepResult> Run(const StepLayerFn& layer_done,
                                 const MeanwhileFn& meanwhile = nullptr,
                                 bool may_run_ahead = false);

 private:
  // Forward, and draws; the device may be at it when it returns.
  absl::Status Start(const StepPlan& plan, const StepLayerFn& layer_done);
  absl::Status StartAhead(const StepPlan& plan);
  absl::Status Forward(const StepPlan& plan, const StepLayerFn& layer_done);
  absl::Status AddAllDraws(const StepPlan& plan);
  // `row`'s logits end before `end_logits_row`.
  absl::Status AddDraws(const StepPlan::Row& row, int32_t end_logits_row);
  absl::Status AddPromptScores(const StepPlan::Row& row, int32_t first_logits_row);
  // Move the next of `drawn` to where they belong.
  static void TakeDraws(const StepPlan::Row& row, std::span<DrawnToken>* drawn,
                        std::vector<SampledToken>* samples);
  void TakePromptScores(const StepPlan::Row& row, std::span<DrawnToken>* drawn, StepResult* result);
  // [first, last) positions of the prompt's tokens that the logits of `row` score.
  struct Positions {
    int32_t first = 0;
    int32_t last = 0;
  };
  Positions ScoredPositions(const StepPlan::Row& row) const;

  Model& model_;
  const KvRegion& kv_;
  Scheduler& scheduler_;
  StepSampler& sampler_;
  const size_t max_rows_ahead_;
  bool is_ahead_ = false;  // the step that PlanAhead gave has been started
  absl::Status ahead_;     // what came of that: the step in front of it is whole all the same
  // Scratch of one step; grows to the largest seen.
  std::vector<ForwardSequence> batch_;
  std::vector<std::vector<SampledToken>> drawn_;  // [rows, samples of a row]; more than a step has
  Logits logits_;
};

}  // namespace baton
