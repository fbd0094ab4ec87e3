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

  // How many of the next `wanted` tokens of a prompt there is room for. At least a block where it
  // is the step's first prompt and can wait no longer.
  int32_t RoomForChunk(const Sequence& sequence, const Branch& branch, int32_t wanted) const;
  void AddChunk(int32_t tokens, int32_t computed);

 private:
  // Its client reads a stream that stands still, or it has waited for the patience, counted from
  // when its first token was due if it had an objective. Before that only where a few steps save
  // it: a long one would be lost all the same, and the streams beside it as well.
  bool CanWaitNoLonger(const Sequence& sequence, const Branch& branch) const;
  double PredictMs(const StepShape& more) const;

  const SchedulerState& state_;
  StepShape shape_;
  double limit_ms_;
};

}  // namespace baton
