#include "engine/scheduler/planner.h"

#include <algorithm>
#include <optional>

#include "common/check.h"
#include "common/kv_layout.h"
#include "engine/scheduler/admission.h"
#include "engine/scheduler/ending.h"
#include "engine/scheduler/pace.h"

namespace baton {

namespace {

class Planner {
 public:
  explicit Planner(SchedulerState* state)
      : state_(*state), pace_(*state), budget_tokens_(state->options.max_batch_tokens) {}

  void Run() {
    JoinSealed();
    state_.started.assign(state_.running.begin(), state_.running.end());
    if (state_.options.chunking == Chunking::kOff) {
      PlanPrompts();
      if (!state_.plan.empty()) return;
    }
    PlanDecodeRows();
    if (state_.options.chunking == Chunking::kOff) return;
    if (state_.options.chunking == Chunking::kFixed && !state_.plan.empty()) {
      budget_tokens_ = std::min(budget_tokens_, state_.options.prefill_chunk_tokens);
    }
    PlanPrompts();
  }

 private:
  // A prompt to start or to go on with.
  struct Candidate {
    WaitKey key;
    Sequence* sequence = nullptr;
  };

  void JoinSealed();
  void PlanDecodeRows();
  void PlanPrompts();
  std::vector<Candidate> StartedPrompts() const;
  // False: nothing that waits may start in this step any more.
  bool Start(const Candidate& prompt);
  bool MakeWritable(BranchKey key, Sequence* sequence, Branch* branch);
  // One more block for `branch`. False: `branch` itself was preempted or failed.
  bool AllocateOrPreempt(BranchKey key, Sequence* sequence, std::vector<BlockRef>* block);
  std::optional<BranchKey> VictimFor(BranchKey key) const;
  // Tokens that only this branch holds the KV of: to be computed again if it gives way.
  int32_t RecomputeTokens(const Branch& branch) const;
  void AddChunk(BranchKey key, Sequence* sequence, Branch* branch);
  bool MayTakeTokens(const Sequence& sequence, const Branch& branch) const;
  int32_t ChunkTokens(const Sequence& sequence, const Branch& branch) const;
  void AddRow(BranchKey key, Sequence* sequence, Branch* branch, int32_t num_tokens);

  // By another branch. The plan's own hold on copy sources does not count: copies are done before
  // anything is written.
  bool IsShared(BlockId block) const {
    const auto held = std::ranges::count(state_.copy_sources, block, &BlockRef::id);
    return state_.cache.pool().References(block) - held > 1;
  }
  bool IsRunning(BranchKey key) const { return state_.running.contains(key); }

  SchedulerState& state_;
  StepPace pace_;
  int32_t budget_tokens_;
  bool preempted_ = false;
};

void Planner::JoinSealed() {
  BlockPool& pool = state_.cache.pool();
  for (const SequenceId id : state_.sealed) {
    const Sequence* sequence = state_.Find(id);
    if (sequence == nullptr) continue;
    for (const Branch& branch : sequence->branches) {
      for (const BlockId block : branch.blocks.ids()) {
        if (pool.State(block) == BlockState::kSealed) pool.StartUse(block);
      }
    }
  }
  state_.sealed.clear();
}

void Planner::PlanDecodeRows() {
  for (const auto& [key, sequence] : state_.started) {
    if (!IsRunning(key)) continue;
    const Branch& branch = sequence->At(key.branch);
    if (branch.phase == BranchPhase::kDecode && branch.joined) pace_.AddRow(*sequence, branch);
  }
  int32_t rows = 0;
  for (const auto& [key, sequence] : state_.started) {
    if (budget_tokens_ == 0 || rows == state_.options.max_batch_sequences) break;
    // Preempted or failed by an older one; then `sequence` may be gone as well.
    if (!IsRunning(key)) continue;
    Branch& branch = sequence->At(key.branch);
    if (branch.phase != BranchPhase::kDecode) continue;
    if (!branch.joined && !pace_.MayJoin(*sequence, branch)) continue;
    if (!MakeWritable(key, sequence, &branch)) continue;
    if (!branch.joined) pace_.AddRow(*sequence, branch);
    branch.joined = true;
    AddRow(key, sequence, &branch, 1);
    ++rows;
  }
}

// Both kinds are in the order of their keys: the next one is the first of either.
void Planner::PlanPrompts() {
  const std::vector<Candidate> started = StartedPrompts();
  auto next_started = started.begin();
  // Freed blocks belong to those who are short of them, not to newcomers.
  bool may_start = !preempted_;
  auto next_waiting = state_.waiting.begin();
  while (budget_tokens_ > 0) {
    const bool starts = may_start && next_waiting != state_.waiting.end() &&
                        (next_started == started.end() || next_waiting->first < next_started->key);
    if (starts) {
      const Candidate prompt{.key = next_waiting->first, .sequence = next_waiting->second};
      may_start = Start(prompt);
      next_waiting = state_.waiting.upper_bound(prompt.key);
      continue;
    }
    if (next_started == started.end()) return;
    const auto& [key, sequence] = *next_started++;
    // Failed with another branch of its sequence.
    if (!IsRunning(key.branch)) continue;
    AddChunk(key.branch, sequence, &sequence->At(key.branch.branch));
  }
}

std::vector<Planner::Candidate> Planner::StartedPrompts() const {
  std::vector<Candidate> prompts;
  for (const auto& [key, sequence] : state_.started) {
    if (!IsRunning(key) || sequence->At(key.branch).phase != BranchPhase::kPrefill) continue;
    const bool first = IsMidStream(*sequence, sequence->At(key.branch));
    prompts.push_back(
        {.key = {first ? absl::InfinitePast() : sequence->order, key}, .sequence = sequence});
  }
  std::ranges::sort(prompts, {}, &Candidate::key);
  return prompts;
}

bool Planner::Start(const Candidate& prompt) {
  const int32_t branch = prompt.key.branch.branch;
  if (OutgrewPool(state_, *prompt.sequence, branch)) {
    const bool planned = prompt.sequence->planned_rows > 0;
    FailExhausted(&state_, prompt.sequence);
    return !planned;
  }
  if (!MayTakeTokens(*prompt.sequence, prompt.sequence->At(branch))) return true;
  if (BetterWaitsForPrefix(state_, *prompt.sequence, branch)) return true;
  const std::optional<Admission> admission = CanAdmit(state_, *prompt.sequence, branch);
  if (!admission) return false;
  Admit(&state_, *admission, prompt.sequence, branch);
  AddChunk(prompt.key.branch, prompt.sequence, &prompt.sequence->At(branch));
  return true;
}

bool Planner::MakeWritable(BranchKey key, Sequence* sequence, Branch* branch) {
  const int32_t index = branch->computed_tokens / state_.options.block_size;
  const bool grows = index == branch->blocks.size();
  const auto current = [&] { return branch->blocks.ids()[static_cast<size_t>(index)]; };
  if (!grows && !IsShared(current())) return true;

  std::vector<BlockRef> block;
  if (!AllocateOrPreempt(key, sequence, &block)) return false;
  if (grows) {
    branch->blocks.Append(std::move(block[0]));
    return true;
  }
  // Samples share the block in which their prompt ends, until they write to it. Making room may
  // have left this one its only owner.
  if (!IsShared(current())) return true;
  state_.cache.pool().StartUse(block[0].id());
  state_.plan.copies.push_back({.from = current(), .to = block[0].id()});
  state_.copy_sources.push_back(branch->blocks.Replace(index, std::move(block[0])));
  return true;
}

bool Planner::AllocateOrPreempt(BranchKey key, Sequence* sequence, std::vector<BlockRef>* block) {
  Branch& branch = sequence->At(key.branch);
  while (!state_.cache.Allocate(1, BlockId(branch.blocks.back().value() + 1), block)) {
    const std::optional<BranchKey> victim = VictimFor(key);
    BATON_CHECK(victim.has_value()) << "sequence " << key.sequence << " runs but is no victim";
    preempted_ = true;
    if (*victim != key) {
      Preempt(&state_, *victim);
      continue;
    }
    const bool never_fits =
        BlocksForTokens(branch.num_tokens(), state_.options.block_size) > state_.options.num_blocks;
    Preempt(&state_, key);
    if (never_fits) FailExhausted(&state_, sequence);
    return false;
  }
  return true;
}

// Only those who are younger give way, so that the oldest always goes on; of them first those
// without an objective, then the cheapest to compute again, then the youngest.
std::optional<BranchKey> Planner::VictimFor(BranchKey key) const {
  std::optional<BranchKey> victim;
  std::pair<bool, int32_t> least;
  for (auto it = state_.running.rbegin(); it != state_.running.rend(); ++it) {
    const auto& [candidate, sequence] = *it;
    if (candidate < key || (candidate == key && victim)) break;
    // Blocks of a kPrefillOnly sequence may be on their way to a peer (H7).
    if (sequence->mode != SequenceMode::kGenerate) continue;
    const std::pair<bool, int32_t> cost{sequence->objective.tpot_ms > 0,
                                        RecomputeTokens(sequence->At(candidate.branch))};
    if (victim && cost >= least) continue;
    victim = candidate;
    least = cost;
  }
  return victim;
}

int32_t Planner::RecomputeTokens(const Branch& branch) const {
  int32_t blocks = 0;
  for (const BlockId block : branch.blocks.ids()) blocks += !IsShared(block);
  return std::min(blocks * state_.options.block_size, branch.computed_tokens);
}

void Planner::AddChunk(BranchKey key, Sequence* sequence, Branch* branch) {
  if (!MayTakeTokens(*sequence, *branch)) return;
  const int32_t tokens = ChunkTokens(*sequence, *branch);
  if (tokens == 0) {
    budget_tokens_ = 0;
    return;
  }
  pace_.AddChunk(tokens, branch->computed_tokens);
  AddRow(key, sequence, branch, tokens);
}

// Where the rows leave nothing, prompts hold no blocks and do not hold up those that must go on.
bool Planner::MayTakeTokens(const Sequence& sequence, const Branch& branch) const {
  return state_.options.chunking != Chunking::kAuto || pace_.RoomForChunk(sequence, branch, 1) > 0;
}

int32_t Planner::ChunkTokens(const Sequence& sequence, const Branch& branch) const {
  const SchedulerOptions& options = state_.options;
  const int32_t left = branch.num_tokens() - branch.computed_tokens;
  if (options.chunking == Chunking::kOff) {
    // The first prompt whatever its length.
    return left <= budget_tokens_ || state_.plan.empty() ? left : 0;
  }
  int32_t chunk = std::min({left, options.prefill_chunk_tokens, budget_tokens_});
  if (options.chunking == Chunking::kAuto) chunk = pace_.RoomForChunk(sequence, branch, chunk);
  if (chunk < left) {
    // End on a block's border where possible: a finished block can be sent and indexed.
    const int32_t over = (branch.computed_tokens + chunk) % options.block_size;
    if (over < chunk) chunk -= over;
  }
  return chunk;
}

void Planner::AddRow(BranchKey key, Sequence* sequence, Branch* branch, int32_t num_tokens) {
  const int32_t start = branch->computed_tokens;
  const int32_t end = start + num_tokens;
  const bool last_chunk = end == branch->num_tokens();
  const bool is_prefill = branch->phase == BranchPhase::kPrefill;

  BlockPool& pool = state_.cache.pool();
  const int32_t end_block = BlocksForTokens(end, state_.options.block_size);
  for (int32_t i = start / state_.options.block_size; i < end_block; ++i) {
    const BlockId block = branch->blocks.ids()[static_cast<size_t>(i)];
    if (pool.State(block) == BlockState::kReserved) pool.StartUse(block);
  }

  int32_t first_logit = last_chunk ? num_tokens - 1 : num_tokens;
  const int32_t prompt_logits_end = sequence->spec.prompt_length - 1;
  if (sequence->spec.sampling.num_prompt_logprobs >= 0 && is_prefill &&
      sequence->prompt_logits_from < std::min(end, prompt_logits_end)) {
    first_logit = std::max(sequence->prompt_logits_from - start, 0);
  }
  state_.plan.rows.push_back(StepPlan::Row{
      .sequence = key.sequence,
      .branch = key.branch,
      .tokens = std::span(branch->tokens)
                    .subspan(static_cast<size_t>(start), static_cast<size_t>(num_tokens)),
      .start_position = start,
      .block_table = branch->blocks.ids(),
      .first_logit_token = first_logit,
      .num_samples = last_chunk ? sequence->samples_at_fork() : 0,
      .is_prefill = is_prefill,
      .ends_prompt = is_prefill && last_chunk,
  });
  state_.plan.num_tokens += num_tokens;
  budget_tokens_ -= num_tokens;
  ++branch->planned_rows;
  ++sequence->planned_rows;
}

}  // namespace

void BuildPlan(SchedulerState* state) {
  BATON_CHECK(!state->planned) << "Plan before Commit";
  state->plan.Clear();
  Planner(state).Run();
  state->planned = !state->plan.empty();
  state->CountStep(state->plan);
}

}  // namespace baton
