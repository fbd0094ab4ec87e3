#include "engine/scheduler/state.h"

#include <algorithm>

#include "common/check.h"

namespace baton {

Sequence* SchedulerState::Find(SequenceId id) {
  const auto found = sequences.find(id);
  return found == sequences.end() ? nullptr : found->second.get();
}

Sequence* SchedulerState::SequenceOf(const StepPlan::Row& row) {
  Sequence* sequence = Find(row.sequence);
  const bool ended =
      sequence == nullptr || sequence->At(row.branch).phase == BranchPhase::kFinished;
  BATON_CHECK(!ended || row.drawn_row >= 0)
      << "sequence " << row.sequence << " vanished from a step";
  return ended ? nullptr : sequence;
}

int32_t SchedulerState::GrowingBranches() const {
  int32_t growing = landing_branches;
  for (const auto& [key, sequence] : running) {
    growing += sequence->mode == SequenceMode::kGenerate ? sequence->samples_at_fork() : 0;
  }
  return growing;
}

StepShape SchedulerState::WorkAtHand() const {
  StepShape work;
  for (const auto& [key, sequence] : running) {
    const Branch& branch = sequence->At(key.branch);
    work += branch.phase == BranchPhase::kDecode
                ? StepShape{.decode_rows = 1, .decode_context = branch.num_tokens()}
                : StepShape::Prefill(branch.num_tokens() - branch.computed_tokens,
                                     branch.computed_tokens);
  }
  for (const auto& [key, sequence] : waiting) {
    const int32_t cached = sequence->admitted_before ? 0 : sequence->expected_cached_tokens;
    work += StepShape::Prefill(sequence->At(key.branch.branch).num_tokens() - cached, cached);
  }
  return work;
}

void SchedulerState::CountStep(const StepPlan& step) {
  if (step_model != nullptr) elapsed_ms += step_model->PredictMs(step.Shape());
}

Sequence* SchedulerState::NewSequence(GenerationSpec spec, SequenceMode mode, BranchPhase phase) {
  auto sequence = std::make_unique<Sequence>();
  sequence->id = SequenceId(next_id++);
  sequence->spec = std::move(spec);
  sequence->mode = mode;
  sequence->added_ms = elapsed_ms;
  sequence->branches.reserve(static_cast<size_t>(sequence->spec.num_samples));
  Branch& trunk = sequence->branches.emplace_back();
  trunk.sample = sequence->spec.first_sample;
  trunk.phase = phase;
  trunk.tokens = sequence->spec.tokens;
  Sequence* raw = sequence.get();
  sequences.emplace(raw->id, std::move(sequence));
  return raw;
}

}  // namespace baton
