#include "engine/scheduler/plan_ahead.h"

#include <algorithm>
#include <vector>

#include "common/check.h"
#include "common/request.h"
#include "engine/scheduler/finish_rules.h"

namespace baton {

namespace {

class AheadPlanner {
 public:
  explicit AheadPlanner(SchedulerState* state) : state_(*state) {}

  void Run() {
    if (!OnlyTheSameRowsCanFollow() || BlocksToGrow() > state_.cache.available()) return;
    const auto rows = static_cast<int32_t>(state_.plan.rows.size());
    for (int32_t i = 0; i < rows; ++i) {
      if (GoesOn(RowAt(i))) AddRow(i);
    }
  }

 private:
  StepPlan::Row& RowAt(int32_t i) { return state_.plan.rows[static_cast<size_t>(i)]; }

  // Nothing else would come into question for the next step.
  bool OnlyTheSameRowsCanFollow() {
    size_t live = 0;
    for (const StepPlan::Row& row : state_.plan.rows) {
      const Sequence* sequence = state_.SequenceOf(row);
      if (sequence == nullptr) continue;
      if (row.is_prefill || HasPenalties(sequence->spec.sampling)) return false;
      ++live;
    }
    return state_.waiting.empty() && state_.sealed.empty() && live == state_.running.size();
  }

  // Unless its token ends it.
  bool GoesOn(const StepPlan::Row& row) {
    Sequence* sequence = state_.SequenceOf(row);
    if (sequence == nullptr || sequence->abort_at_commit || sequence->fail_at_commit) return false;
    const Branch& branch = sequence->At(row.branch);
    const int32_t num_tokens = branch.num_tokens() + 1;
    return !branch.abort_at_commit &&
           !IsFullLength(sequence->spec, state_.options, num_tokens - sequence->spec.prompt_length,
                         num_tokens);
  }

  int32_t BlockOfNext(const StepPlan::Row& row) const {
    return (row.start_position + 1) / state_.options.block_size;
  }

  int32_t BlocksToGrow() {
    return static_cast<int32_t>(
        std::ranges::count_if(state_.plan.rows, [&](const StepPlan::Row& row) {
          return GoesOn(row) &&
                 BlockOfNext(row) == state_.SequenceOf(row)->At(row.branch).blocks.size();
        }));
  }

  void AddRow(int32_t i) {
    StepPlan::Row& before = RowAt(i);
    Sequence& sequence = *state_.SequenceOf(before);
    Branch& branch = sequence.At(before.branch);
    const int32_t index = BlockOfNext(before);
    if (index == branch.blocks.size()) {
      std::vector<BlockRef> block;
      const bool allocated =
          state_.cache.Allocate(1, BlockId(branch.blocks.back().value() + 1), &block);
      BATON_CHECK(allocated) << "sequence " << sequence.id;
      branch.blocks.Append(std::move(block[0]));
      before.block_table = branch.blocks.ids();  // they may have moved
    }
    // The step before has made the branch the only one that writes to its last block.
    BlockPool& pool = state_.cache.pool();
    const BlockId written = branch.blocks.ids()[static_cast<size_t>(index)];
    if (pool.State(written) == BlockState::kReserved) pool.StartUse(written);
    state_.ahead.rows.push_back(StepPlan::Row{.sequence = before.sequence,
                                              .branch = before.branch,
                                              .tokens = {&state_.not_drawn, 1},
                                              .start_position = before.start_position + 1,
                                              .block_table = branch.blocks.ids(),
                                              .num_samples = 1,
                                              .drawn_row = i});
    ++state_.ahead.num_tokens;
    ++branch.planned_rows;
    ++sequence.planned_rows;
  }

  SchedulerState& state_;
};

}  // namespace

void BuildPlanAhead(SchedulerState* state) {
  BATON_CHECK(state->planned && !state->planned_ahead) << "PlanAhead without an open step";
  BATON_CHECK(state->ahead.empty()) << "PlanAhead twice";
  AheadPlanner(state).Run();
  state->CountStep(state->ahead);
}

}  // namespace baton
