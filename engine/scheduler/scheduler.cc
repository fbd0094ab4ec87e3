#include "engine/scheduler/scheduler.h"

#include <utility>

#include "absl/strings/str_cat.h"
#include "common/check.h"
#include "engine/scheduler/admission.h"
#include "engine/scheduler/commit.h"
#include "engine/scheduler/ending.h"
#include "engine/scheduler/handoff.h"
#include "engine/scheduler/invariants.h"
#include "engine/scheduler/plan_ahead.h"
#include "engine/scheduler/planner.h"
#include "engine/scheduler/spec_check.h"
#include "engine/scheduler/state.h"

namespace baton {

namespace {

// The methods only name the rule that they stand for.
class PagedScheduler final : public Scheduler {
 public:
  explicit PagedScheduler(const SchedulerOptions& options) : state_(options) {}

  void SetStepModel(const StepModelTracker* model) override { state_.step_model = model; }

  absl::StatusOr<SequenceId> Add(GenerationSpec spec, SequenceMode mode,
                                 const SequenceObjective& objective) override {
    RETURN_IF_ERROR(CheckSpec(spec, state_.options));
    if (state_.unstarted >= state_.options.max_waiting) {
      return absl::ResourceExhaustedError(
          absl::StrCat(state_.unstarted, " sequences are waiting already"));
    }
    Sequence* sequence = state_.NewSequence(std::move(spec), mode, BranchPhase::kWaiting);
    sequence->expected_cached_tokens = CachedTokens(state_, *sequence, sequence->branches[0]);
    sequence->objective = objective;
    sequence->order = PrefillOrder(state_, *sequence);
    state_.waiting.emplace(WaitKeyOf(*sequence, 0), sequence);
    ++state_.unstarted;
    return sequence->id;
  }

  absl::StatusOr<Reservation> Reserve(GenerationSpec spec,
                                      const SequenceObjective& objective) override {
    RETURN_IF_ERROR(CheckSpec(spec, state_.options));
    return baton::Reserve(&state_, std::move(spec), objective);
  }
  absl::Status Seal(SequenceId sequence, std::span<const TokenId> first_tokens) override {
    return baton::Seal(&state_, sequence, first_tokens);
  }
  void LandingReleased(SequenceId sequence) override { baton::LandingReleased(&state_, sequence); }

  void Release(SequenceId id) override {
    Sequence* sequence = state_.Find(id);
    if (sequence == nullptr || sequence->mode != SequenceMode::kPrefillOnly) return;
    DropEvents(&state_, id);
    if (sequence->planned_rows > 0) {
      sequence->abort_at_commit = sequence->release_at_commit = true;
    } else {
      Forget(&state_, sequence);
    }
  }

  void Abort(SequenceId id, bool keep_pinned) override {
    DropEvents(&state_, id);  // also of a sequence that has just ended by itself
    Sequence* sequence = state_.Find(id);
    if (sequence == nullptr) return;
    if (sequence->planned_rows > 0) {
      sequence->keep_pinned = keep_pinned;
      sequence->abort_at_commit = true;
    } else {
      EndAborted(&state_, sequence, keep_pinned);
    }
  }

  void AbortBranch(SequenceId id, int32_t sample) override {
    DropBranchFinished(&state_, id, sample);
    Sequence* sequence = state_.Find(id);
    if (sequence == nullptr) return;
    const int32_t index = sample - sequence->spec.first_sample;
    if (index < 0 || index >= sequence->spec.num_samples) return;
    if (!sequence->forked) {
      sequence->aborted_samples.insert(sample);
      return;
    }
    Branch& branch = sequence->At(index);
    if (branch.phase == BranchPhase::kFinished) return;
    if (branch.planned_rows > 0) {
      branch.abort_at_commit = true;
    } else {
      EndBranch(&state_, sequence, index);
    }
  }

  const StepPlan& Plan() override {
    if (!std::exchange(state_.planned_ahead, false)) BuildPlan(&state_);
    return state_.plan;
  }
  const StepPlan& PlanAhead() override {
    BuildPlanAhead(&state_);
    return state_.ahead;
  }
  std::vector<SequenceEvent> Commit(std::span<const std::vector<SampledToken>> sampled) override {
    ApplyStep(&state_, sampled);
    return TakeEvents();
  }
  std::vector<SequenceEvent> TakeEvents() override { return std::exchange(state_.events, {}); }

  PrefixChanges TakePrefixChanges() override { return state_.cache.TakeChanges(); }
  std::vector<uint64_t> PrefixHashes() const override { return state_.cache.index().Hashes(); }

  bool HasWork() const override {
    if (!state_.events.empty() || !state_.running.empty() || state_.planned) return true;
    if (state_.waiting.empty()) return false;
    // With nothing running there is nothing that the first could wait for but blocks.
    const auto& [key, sequence] = *state_.waiting.begin();
    return OutgrewPool(state_, *sequence, key.branch.branch) ||
           CanAdmit(state_, *sequence, key.branch.branch).has_value();
  }

  bool InStep() const override { return state_.planned; }
  BlockCensus Census() const override {
    const BlockPool& pool = state_.cache.pool();
    return {.free = pool.Count(BlockState::kFree),
            .reserved = pool.Count(BlockState::kReserved),
            .landing = pool.Count(BlockState::kLanding),
            .sealed = pool.Count(BlockState::kSealed),
            .in_use = pool.Count(BlockState::kInUse),
            .cached = pool.Count(BlockState::kCached),
            .quarantined = pool.Count(BlockState::kQuarantine)};
  }
  int32_t num_running() const override { return static_cast<int32_t>(state_.running.size()); }
  int32_t num_waiting() const override { return static_cast<int32_t>(state_.waiting.size()); }
  StepShape WorkAtHand() const override { return state_.WorkAtHand(); }
  uint64_t preemptions_total() const override { return state_.preemptions; }
  uint64_t prefix_query_tokens_total() const override { return state_.prefix_query_tokens; }
  uint64_t prefix_hit_tokens_total() const override { return state_.prefix_hit_tokens; }

  std::span<const TokenId> Tokens(SequenceId sequence, int32_t branch) const override {
    return BranchOf(sequence, branch).tokens;
  }
  const GenerationSpec& Spec(SequenceId sequence) const override { return Known(sequence).spec; }
  std::span<const BlockId> BlockTable(SequenceId sequence, int32_t branch) const override {
    return BranchOf(sequence, branch).blocks.ids();
  }
  void CheckInvariants() const override { CheckSchedulerInvariants(state_); }

 private:
  const Sequence& Known(SequenceId id) const {
    const auto found = state_.sequences.find(id);
    BATON_CHECK(found != state_.sequences.end()) << "sequence " << id << " is not known";
    return *found->second;
  }
  const Branch& BranchOf(SequenceId id, int32_t branch) const {
    const Sequence& sequence = Known(id);
    BATON_CHECK(branch >= 0 && static_cast<size_t>(branch) < sequence.branches.size())
        << "branch " << branch << " of sequence " << id;
    return sequence.branches[static_cast<size_t>(branch)];
  }

  SchedulerState state_;
};

}  // namespace

void StepPlan::Clear() {
  copies.clear();
  rows.clear();
  num_tokens = 0;
}

StepShape StepPlan::Shape() const {
  StepShape shape;
  for (const Row& row : rows) {
    const auto tokens = static_cast<int64_t>(row.tokens.size());
    shape += row.is_prefill
                 ? StepShape::Prefill(tokens, row.start_position)
                 : StepShape{.decode_rows = 1, .decode_context = row.start_position + tokens};
  }
  return shape;
}

std::unique_ptr<Scheduler> Scheduler::Create(const SchedulerOptions& options) {
  BATON_CHECK(options.block_size > 0) << options.block_size;
  BATON_CHECK(options.num_blocks > 0) << options.num_blocks;
  BATON_CHECK(options.max_model_len > 1) << options.max_model_len;
  BATON_CHECK(options.max_batch_sequences > 0) << options.max_batch_sequences;
  BATON_CHECK(options.max_batch_tokens > 0) << options.max_batch_tokens;
  BATON_CHECK(options.prefill_chunk_tokens > 0) << options.prefill_chunk_tokens;
  BATON_CHECK(options.tpot_margin > 0) << options.tpot_margin;
  return std::make_unique<PagedScheduler>(options);
}

}  // namespace baton
