#include "engine/scheduler/fork.h"

#include <optional>
#include <utility>

#include "common/check.h"
#include "engine/scheduler/ending.h"
#include "engine/scheduler/finish_rules.h"

namespace baton {

void Fork(SchedulerState* state, Sequence* sequence) {
  BATON_CHECK(!sequence->forked) << "sequence " << sequence->id << " forks twice";
  sequence->forked = true;
  state->running.emplace(BranchKey{sequence->id, 0}, sequence);
  const Branch& trunk = sequence->branches[0];
  BATON_CHECK(trunk.phase == BranchPhase::kDecode) << "sequence " << sequence->id;
  sequence->branches[0].ready_ms = state->elapsed_ms;
  for (int32_t i = 1; i < sequence->spec.num_samples; ++i) {
    Branch& branch = sequence->branches.emplace_back();
    branch.sample = sequence->spec.first_sample + i;
    branch.phase = BranchPhase::kDecode;
    branch.tokens = trunk.tokens;
    branch.computed_tokens = trunk.computed_tokens;
    branch.indexed = trunk.indexed;
    branch.ready_ms = state->elapsed_ms;
    for (const BlockId block : trunk.blocks.ids()) {
      branch.blocks.Append(state->cache.pool().Share(block));
    }
    state->running.emplace(BranchKey{sequence->id, i}, sequence);
  }
}

void AppendToken(SchedulerState* state, Sequence* sequence, int32_t index, SampledToken token,
                 bool emit_token) {
  Branch& branch = sequence->At(index);
  const TokenOutput output{.sample = branch.sample,
                           .index = branch.num_tokens() - sequence->spec.prompt_length,
                           .token = token.token,
                           .logprob = token.logprob,
                           .top_logprobs = std::move(token.top_logprobs)};
  branch.tokens.push_back(token.token);
  const std::optional<SampleFinish> finish =
      FinishOf(sequence->spec, state->options, output, branch.num_tokens());
  if (emit_token) state->Emit(sequence->id, SequenceEvent::Token{output});
  if (finish) state->Emit(sequence->id, SequenceEvent::BranchFinished{*finish});
  if (finish) EndBranch(state, sequence, index);
}

void StartSamples(SchedulerState* state, Sequence* sequence, std::span<const SampledToken> tokens,
                  bool emit_tokens) {
  // Only the last branch to end takes the sequence with it, so `sequence` holds to the end.
  for (size_t i = 0; i < tokens.size(); ++i) {
    const auto branch = static_cast<int32_t>(i);
    if (sequence->aborted_samples.contains(sequence->At(branch).sample)) {
      EndBranch(state, sequence, branch);
    } else {
      AppendToken(state, sequence, branch, tokens[i], emit_tokens);
    }
  }
}

}  // namespace baton
