// One step of the toy model over a scheduler's plan, layer by layer: writes the KV of each row's
// tokens and checks that what it attends to is the KV of the tokens before them. A row whose branch
// has ended since it was planned writes as well, as on a device, but nobody's KV.
#pragma once

#include <vector>

#include "engine/scheduler/scheduler.h"
#include "sim/toy_model.h"

namespace baton::sim {

class ToyStep {
 public:
  // The block of each row's last token.
  static std::vector<BlockId> LastBlocks(const StepPlan& plan);
  // `last_blocks`: LastBlocks when the step was planned. REQUIRES: `plan` is not empty, and stays
  // valid until Finish.
  ToyStep(Scheduler& scheduler, const StepPlan& plan, ToyMemory& memory, int32_t layers,
          std::vector<BlockId> last_blocks);

  const StepPlan& plan() const { return plan_; }
  const StepShape& shape() const { return shape_; }
  int32_t layer() const { return layer_; }  // the next one
  bool LayersDone() const { return layer_ == layers_; }
  // Throws Violation for KV of other tokens. REQUIRES: !LayersDone().
  void RunLayer();
  // Commits. REQUIRES: LayersDone().
  std::vector<SequenceEvent> Finish();

 private:
  Scheduler& scheduler_;
  const StepPlan& plan_;
  ToyMemory& memory_;
  const int32_t layers_;
  const StepShape shape_;
  const std::vector<BlockId> last_blocks_;
  int32_t layer_ = 0;
  std::vector<std::vector<uint64_t>> prefixes_;  // of each row, token by token; empty: it has ended
  std::vector<std::vector<SampledToken>> sampled_;
};

}  // namespace baton::sim
