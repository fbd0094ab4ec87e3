// How much may run in one step, so that the predicted step stays under the TPOT objectives of its
// decode rows.
#pragma once

#include "engine/scheduler/state.h"

namespace baton {

// Of one step that is being planned. Without a step model everything may run.
class StepPace {
 public:
  explicit StepPace(const SchedulerState& state);

  // A decode row that runs whatever it takes: its stream has begun.
  void AddRow(const Sequence& sequence, const Branch& branch);
  // Whether one more row leaves the objectives of the others as they are, or has waited so long
  // that it runs all the same. An empty step takes everybody.
  bool MayJoin(const Sequence& sequence, const Branch& branch) const;

  // How many of the next `wanted` tokens of a prompt there is room for. Where it is the step's
  // first prompt at least a block: prompts must go on, too.
  int32_t RoomForChunk(int32_t wanted, int32_t computed) const;
  void AddChunk(int32_t tokens, int32_t computed);

 private:
  double PredictMs(const StepShape& more) const;

  const SchedulerState& state_;
  StepShape shape_;
  double limit_ms_;
};

}  // namespace baton
