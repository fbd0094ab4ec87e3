#include "engine/scheduler/invariants.h"

#include <vector>

#include "common/check.h"
#include "common/kv_layout.h"

namespace baton {

namespace {

class Checker {
 public:
  explicit Checker(const SchedulerState& state)
      : state_(state), references_(static_cast<size_t>(state.options.num_blocks)) {}

  void Run() {
    state_.cache.CheckInvariants();
    for (const auto& [id, sequence] : state_.sequences) CheckSequence(id, *sequence);
    CheckQueues();
    CheckQuarantine();
    for (const BlockRef& block : state_.copy_sources) ++References(block.id());
    for (const BlockTable& left : state_.left_ahead) {
      for (const BlockId block : left.ids()) ++References(block);
    }
    for (int32_t i = 0; i < state_.options.num_blocks; ++i) {
      BATON_CHECK(References(BlockId(i)) == state_.cache.pool().References(BlockId(i)))
          << "H1: block " << i << " has " << state_.cache.pool().References(BlockId(i))
          << " references, " << References(BlockId(i)) << " are accounted for";
    }
  }

 private:
  int32_t& References(BlockId block) { return references_[static_cast<size_t>(block.value())]; }

  void CheckSequence(SequenceId id, const Sequence& sequence) {
    BATON_CHECK(!sequence.branches.empty() && sequence.open_branches() > 0)
        << "sequence " << id << " has no open branch";
    int32_t planned = 0;
    for (size_t i = 0; i < sequence.branches.size(); ++i) {
      planned += sequence.branches[i].planned_rows;
      CheckBranch({id, static_cast<int32_t>(i)}, sequence, sequence.branches[i]);
    }
    BATON_CHECK(planned == sequence.planned_rows) << "sequence " << id << " counts its rows wrong";
    BATON_CHECK(state_.planned || planned == 0) << "sequence " << id << " is planned, but no step";
    if (sequence.landing()) landing_branches_ += sequence.spec.num_samples;
  }

  void CheckBranch(BranchKey key, const Sequence& sequence, const Branch& branch) {
    const bool waits = branch.phase == BranchPhase::kWaiting;
    const bool runs = branch.phase == BranchPhase::kPrefill || branch.phase == BranchPhase::kDecode;
    BATON_CHECK(state_.waiting.contains(WaitKeyOf(sequence, key.branch)) == waits)
        << "branch of " << key.sequence;
    BATON_CHECK(state_.running.contains(key) == runs) << "branch of " << key.sequence;
    waiting_ += waits;
    running_ += runs;
    unstarted_ += waits && !sequence.admitted_before;
    if (waits || branch.phase == BranchPhase::kFinished) {
      BATON_CHECK(branch.blocks.size() == 0) << "branch of " << key.sequence << " keeps blocks";
      return;
    }
    const int32_t computed_blocks =
        BlocksForTokens(branch.computed_tokens, state_.options.block_size);
    BATON_CHECK(computed_blocks <= branch.blocks.size())
        << "sequence " << key.sequence << ": " << branch.computed_tokens << " computed tokens in "
        << branch.blocks.size() << " blocks";
    BATON_CHECK(branch.phase != BranchPhase::kDecode ||
                branch.computed_tokens == branch.num_tokens() - 1)
        << "sequence " << key.sequence << " decodes with " << branch.computed_tokens << " of "
        << branch.num_tokens() << " tokens computed";
    for (int32_t i = 0; i < branch.blocks.size(); ++i) {
      const BlockId block = branch.blocks.ids()[static_cast<size_t>(i)];
      ++References(block);
      CheckBlock(key, sequence, branch, i, state_.cache.pool().State(block));
    }
  }

  void CheckBlock(BranchKey key, const Sequence& sequence, const Branch& branch, int32_t index,
                  BlockState block) {
    const bool landing = branch.phase == BranchPhase::kLanding;
    const bool lands = landing && index >= sequence.first_landing_block;
    BATON_CHECK((block == BlockState::kLanding) == lands)
        << "H1, H4: block " << index << " of sequence " << key.sequence << " is "
        << BlockStateName(block);
    BATON_CHECK(block != BlockState::kFree && block != BlockState::kCached &&
                block != BlockState::kQuarantine)
        << "H2, H7: block " << index << " of sequence " << key.sequence << " is "
        << BlockStateName(block) << " while held";
    const bool computed = index * state_.options.block_size < branch.computed_tokens;
    BATON_CHECK(block != BlockState::kReserved || !computed)
        << "H1: computed block " << index << " of sequence " << key.sequence << " is RESERVED";
  }

  void CheckQueues() const {
    BATON_CHECK(state_.waiting.size() == waiting_) << "waiting list names unknown branches";
    BATON_CHECK(state_.running.size() == running_) << "running list names unknown branches";
    BATON_CHECK(state_.unstarted == unstarted_) << state_.unstarted << " != " << unstarted_;
    BATON_CHECK(state_.landing_branches == landing_branches_)
        << state_.landing_branches << " != " << landing_branches_;
    BATON_CHECK(state_.planned || state_.copy_sources.empty()) << "copy sources without a step";
    BATON_CHECK(state_.planned || state_.left_ahead.empty()) << "blocks left without a step";
    BATON_CHECK(state_.planned || state_.ahead.empty()) << "a step ahead of none";
  }

  void CheckQuarantine() const {
    int32_t quarantined = 0;
    for (const auto& [id, blocks] : state_.quarantine) {
      for (const BlockId block : blocks) {
        BATON_CHECK(state_.cache.pool().State(block) == BlockState::kQuarantine)
            << "H2: block " << block << " of " << id << " left quarantine by itself";
        ++quarantined;
      }
    }
    BATON_CHECK(quarantined == state_.cache.pool().Count(BlockState::kQuarantine))
        << "H5: " << state_.cache.pool().Count(BlockState::kQuarantine) << " blocks in quarantine, "
        << quarantined << " of them owned";
  }

  const SchedulerState& state_;
  std::vector<int32_t> references_;  // [num_blocks], counted from the tables
  size_t waiting_ = 0;
  size_t running_ = 0;
  int32_t unstarted_ = 0;
  int32_t landing_branches_ = 0;
};

}  // namespace

void CheckSchedulerInvariants(const SchedulerState& state) { Checker(state).Run(); }

}  // namespace baton
