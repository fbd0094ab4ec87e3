#include "engine/scheduler/state.h"

#include <algorithm>

namespace baton {

Sequence* SchedulerState::Find(SequenceId id) {
  const auto found = sequences.find(id);
  return found == sequences.end() ? nullptr : found->second.get();
}

int32_t SchedulerState::GrowingBranches() const {
  int32_t growing = landing_branches;
  for (const auto& [key, sequence] : running) {
    growing += sequence->mode == SequenceMode::kGenerate ? sequence->samples_at_fork() : 0;
  }
  return growing;
}

Sequence* SchedulerState::NewSequence(GenerationSpec spec, SequenceMode mode, BranchPhase phase) {
  auto sequence = std::make_unique<Sequence>();
  sequence->id = SequenceId(next_id++);
  sequence->spec = std::move(spec);
  sequence->mode = mode;
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
