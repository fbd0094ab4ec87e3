#include "engine/scheduler/handoff.h"

#include <algorithm>
#include <optional>
#include <vector>

#include "absl/strings/str_cat.h"
#include "common/check.h"
#include "engine/scheduler/admission.h"
#include "engine/scheduler/ending.h"
#include "engine/scheduler/fork.h"

namespace baton {

namespace {

bool PreemptedBranchWaits(const SchedulerState& state) {
  return static_cast<int32_t>(state.waiting.size()) > state.unstarted;
}

absl::Status CheckFirstTokens(const SchedulerState& state, const Sequence& sequence,
                              std::span<const TokenId> tokens) {
  if (static_cast<int32_t>(tokens.size()) != sequence.spec.num_samples) {
    return absl::InvalidArgumentError(
        absl::StrCat(tokens.size(), " first tokens for ", sequence.spec.num_samples, " samples"));
  }
  for (const TokenId token : tokens) {
    if (token < 0 || (state.options.vocab_size > 0 && token >= state.options.vocab_size)) {
      return absl::InvalidArgumentError(
          absl::StrCat("first token ", token, ", the vocabulary has ", state.options.vocab_size));
    }
  }
  return absl::OkStatus();
}

}  // namespace

absl::StatusOr<Reservation> Reserve(SchedulerState* state, GenerationSpec spec,
                                    const SequenceObjective& objective) {
  // Those who decode already and were pushed out come first.
  if (PreemptedBranchWaits(*state)) {
    return absl::ResourceExhaustedError("preempted sequences wait for KV blocks");
  }
  Sequence* sequence =
      state->NewSequence(std::move(spec), SequenceMode::kGenerate, BranchPhase::kLanding);
  sequence->objective = objective;
  sequence->order = objective.arrived + state->options.patience;
  Branch& trunk = sequence->branches[0];
  // Prefill draws the first tokens, so even the last full block may come from our cache.
  const bool may_match = sequence->spec.sampling.num_prompt_logprobs < 0;
  const std::optional<Admission> room =
      FindRoom(*state, *sequence, trunk, may_match ? trunk.num_tokens() : 0);
  if (!room) {
    const SequenceId id = sequence->id;
    const int32_t num_tokens = trunk.num_tokens();
    state->sequences.erase(id);
    return absl::ResourceExhaustedError(absl::StrCat(
        "no room for ", num_tokens, " tokens: ", state->cache.available(), " KV blocks available, ",
        state->GrowingBranches(), " of ", state->options.max_batch_sequences, " branches taken"));
  }
  TakeRoom(state, *room, sequence, &trunk);
  state->landing_branches += sequence->spec.num_samples;
  sequence->first_landing_block = static_cast<int32_t>(room->matched.size());

  Reservation reservation{.sequence = sequence->id, .first_missing_token = trunk.computed_tokens};
  for (int32_t i = sequence->first_landing_block; i < trunk.blocks.size(); ++i) {
    const BlockId block = trunk.blocks.ids()[static_cast<size_t>(i)];
    state->cache.pool().StartLanding(block);
    reservation.landing_blocks.push_back(block);
  }
  if (state->options.mutations.index_before_seal) {
    state->cache.Register(sequence->spec.cache_salt, trunk.tokens, trunk.blocks.ids(),
                          &trunk.indexed);
  }
  return reservation;
}

absl::Status Seal(SchedulerState* state, SequenceId id, std::span<const TokenId> first_tokens) {
  Sequence* sequence = state->Find(id);
  if (sequence == nullptr) {
    return absl::NotFoundError(absl::StrCat("sequence ", id.value(), " is not known"));
  }
  if (!sequence->landing()) {
    return absl::FailedPreconditionError(absl::StrCat("sequence ", id.value(), " is not landing"));
  }
  RETURN_IF_ERROR(CheckFirstTokens(*state, *sequence, first_tokens));

  Branch& trunk = sequence->branches[0];
  for (int32_t i = sequence->first_landing_block; i < trunk.blocks.size(); ++i) {
    state->cache.pool().Seal(trunk.blocks.ids()[static_cast<size_t>(i)]);
  }
  trunk.computed_tokens = trunk.num_tokens();
  // Prefill has given the prompt's logprobs: computing it again after a preemption gives none.
  sequence->prompt_logits_from = sequence->spec.prompt_length;
  if (state->options.prefix_caching) {
    state->cache.Register(sequence->spec.cache_salt, trunk.tokens, trunk.blocks.ids(),
                          &trunk.indexed);
  }
  state->landing_branches -= sequence->spec.num_samples;
  trunk.MoveTo(BranchPhase::kDecode);
  Fork(state, sequence);
  state->sealed.push_back(id);
  std::vector<SampledToken> tokens;
  for (const TokenId token : first_tokens) tokens.push_back({.token = token});
  StartSamples(state, sequence, tokens, /*emit_tokens=*/false);
  return absl::OkStatus();
}

void LandingReleased(SchedulerState* state, SequenceId id) {
  if (const auto found = state->quarantine.find(id); found != state->quarantine.end()) {
    for (const BlockId block : found->second) state->cache.pool().EndQuarantine(block);
    state->quarantine.erase(found);
    return;
  }
  Sequence* sequence = state->Find(id);
  if (sequence != nullptr && sequence->landing()) sequence->landing_released = true;
}

}  // namespace baton
