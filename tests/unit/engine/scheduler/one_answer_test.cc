// Random workloads on two schedulers: whatever is batched, chunked, preempted, cached, forked,
// aborted or handed over, each request gives exactly the tokens that it gives alone, and at the end
// every block is free or cached.
#include <gtest/gtest.h>

#include <algorithm>
#include <cstring>

#include "tests/unit/engine/scheduler/cluster.h"

namespace baton {
namespace {

struct Handoff {
  int from = 0;  // node
  SequenceId source;
  bool source_watched = true;
  Reservation target;
  bool landing = true;  // not sealed, not aborted
  // What the transport reads, from the first step of the source on (H7).
  std::vector<BlockId> source_blocks;
  std::optional<GenerationSpec> computed;  // once the prompt is done
};

// What the workloads of all seeds reached, so that the test cannot become empty unnoticed.
struct Reached {
  int64_t preemptions = 0, hits = 0, copies = 0, failed = 0, finished = 0, sealed = 0,
          quarantined = 0, aborted_in_step = 0, started_ahead = 0, aborted_beside = 0,
          reserved_beside = 0;
};
Reached reached;

class Workload {
 public:
  explicit Workload(uint64_t seed)
      : source_(seed),
        nodes_{Node("a", source_.Options(), source_.Model()),
               Node("b", source_.Options(), source_.Model(), /*on_device=*/true)} {}

  void Run(int operations) {
    for (int i = 0; i < operations && !testing::Test::HasFailure(); ++i) {
      Operate(nullptr);
      CheckInvariants();
    }
    Drain();
    Collect();
  }

 private:
  // `stepping`: the node whose step is running, where nothing may be added or stepped.
  void Operate(Node* stepping) {
    Node& node = nodes_[source_.Uniform(0, 1)];
    switch (source_.Uniform(0, stepping == nullptr ? 13 : 7)) {
      case 0:
        StartHandoff(stepping);
        break;
      case 1:
      case 2:
        FinishOneHandoff();
        break;
      case 3:
        if (source_.OneIn(3)) FailOneHandoff();
        break;
      case 4:
        ReleaseOne();
        break;
      case 5:
        if (source_.OneIn(4)) AbortOne(node);
        break;
      case 6:
        if (source_.OneIn(3)) AbortOneBranch(node);
        break;
      case 7:
        LateWrites();
        break;
      case 8:
        if (node.scheduler->InStep()) break;
        (void)node.Add(source_.Spec(node.options), SequenceMode::kGenerate, source_.Objective());
        break;
      default:
        StepOne(node);
    }
  }

  void StepOne(Node& node) {
    if (!node.scheduler->HasWork()) return;
    node.Step(
        [&] {
          if (source_.OneIn(4)) Operate(&node);
          node.scheduler->CheckInvariants();
        },
        /*may_run_ahead=*/!source_.OneIn(4));
  }

  void StartHandoff(const Node* stepping) {
    const int from = source_.Uniform(0, 1);
    if (stepping == &nodes_[from] || nodes_[from].scheduler->InStep()) return;
    Node& target = nodes_[1 - from];
    const GenerationSpec spec = source_.Spec(target.options);
    const absl::StatusOr<Reservation> reservation = target.Reserve(spec, source_.Objective());
    if (!reservation.ok()) return;
    const auto source = nodes_[from].Add(spec, SequenceMode::kPrefillOnly, source_.Objective());
    if (!source.ok()) {
      target.Abort(reservation->sequence, false);
      target.scheduler->LandingReleased(reservation->sequence);
      return;
    }
    for (const BlockId block : reservation->landing_blocks) target.kv.Scribble(block);
    reached.reserved_beside += !target.in_step && target.scheduler->InStep();
    handoffs_.push_back({.from = from, .source = *source, .target = *reservation});
  }

  bool Ready(const Handoff& handoff) {
    const auto& watched = nodes_[handoff.from].watched;
    const auto found = watched.find(handoff.source);
    return handoff.landing && found != watched.end() && found->second.prompt_done;
  }

  void FinishOneHandoff() {
    const auto handoff =
        std::ranges::find_if(handoffs_, [&](const Handoff& h) { return Ready(h); });
    if (handoff == handoffs_.end()) return;
    Node& from = nodes_[handoff->from];
    Node& to = nodes_[1 - handoff->from];
    const auto source_blocks = from.scheduler->BlockTable(handoff->source, 0);
    const auto first =
        static_cast<size_t>(handoff->target.first_missing_token / from.options.block_size);
    ASSERT_EQ(source_blocks.size() - first, handoff->target.landing_blocks.size());
    const KvRegion& source_kv = from.kv.region();
    for (size_t i = first; i < source_blocks.size(); ++i) {
      for (int32_t layer = 0; layer < source_kv.layout.num_layers; ++layer) {
        std::memcpy(to.kv.region().Block(layer, handoff->target.landing_blocks[i - first]),
                    source_kv.Block(layer, source_blocks[i]),
                    static_cast<size_t>(source_kv.layout.BlockBytes()));
      }
    }
    to.Seal(handoff->target.sequence);
    to.scheduler->LandingReleased(handoff->target.sequence);
    from.watched.erase(handoff->source);
    from.scheduler->Release(handoff->source);
    handoffs_.erase(handoff);
    ++reached.sealed;
  }

  void FailOneHandoff() {
    if (handoffs_.empty()) return;
    Handoff& handoff = handoffs_[static_cast<size_t>(
        source_.Uniform(0, static_cast<int32_t>(handoffs_.size()) - 1))];
    AbortTarget(handoff);
    if (handoff.source_watched) nodes_[handoff.from].Abort(handoff.source, /*keep_pinned=*/true);
    handoff.source_watched = false;
  }

  void AbortTarget(Handoff& handoff) {
    if (!handoff.landing) return;
    handoff.landing = false;
    nodes_[1 - handoff.from].Abort(handoff.target.sequence, false);
    reached.quarantined += nodes_[1 - handoff.from].scheduler->Census().quarantined;
  }

  // The transport of one failed handoff gives up its blocks at last.
  void ReleaseOne() {
    const auto failed =
        std::ranges::find_if(handoffs_, [](const Handoff& h) { return !h.landing; });
    if (failed != handoffs_.end()) ReleaseFailed(failed);
  }
  void ReleaseFailed(std::vector<Handoff>::iterator failed) {
    Node& to = nodes_[1 - failed->from];
    to.scheduler->LandingReleased(failed->target.sequence);
    to.scheduler->LandingReleased(failed->target.sequence);
    nodes_[failed->from].watched.erase(failed->source);
    nodes_[failed->from].scheduler->Release(failed->source);
    handoffs_.erase(failed);
  }

  // Whoever lost a handoff may write to its landing blocks until they are released.
  void LateWrites() {
    for (const Handoff& handoff : handoffs_) {
      if (source_.OneIn(2)) continue;
      for (const BlockId block : handoff.target.landing_blocks) {
        nodes_[1 - handoff.from].kv.Scribble(block);
      }
    }
  }

  std::optional<SequenceId> PickGenerating(const Node& node) {
    std::vector<SequenceId> ids;
    for (const auto& [id, watched] : node.watched) {
      const bool in_handoff = std::ranges::any_of(handoffs_, [&, id = id](const Handoff& h) {
        return &node == &nodes_[h.from] ? h.source == id : h.target.sequence == id;
      });
      if (!in_handoff) ids.push_back(id);
    }
    if (ids.empty()) return std::nullopt;
    return ids[static_cast<size_t>(source_.Uniform(0, static_cast<int32_t>(ids.size()) - 1))];
  }

  void AbortOne(Node& node) {
    const std::optional<SequenceId> id = PickGenerating(node);
    if (!id) return;
    reached.aborted_in_step += node.in_step;
    reached.aborted_beside += !node.in_step && node.scheduler->InStep();
    node.Abort(*id, source_.OneIn(2));
    node.Abort(*id, false);
  }

  void AbortOneBranch(Node& node) {
    const std::optional<SequenceId> id = PickGenerating(node);
    if (!id) return;
    const GenerationSpec& spec = node.watched.at(*id).spec;
    node.AbortBranch(*id, spec.first_sample + source_.Uniform(0, spec.num_samples - 1));
  }

  void CheckInvariants() {
    for (Node& node : nodes_) {
      node.scheduler->CheckInvariants();
      const BlockCensus census = node.scheduler->Census();
      ASSERT_EQ(census.free + census.reserved + census.landing + census.sealed + census.in_use +
                    census.cached + census.quarantined,
                node.options.num_blocks);
    }
    for (Handoff& handoff : handoffs_) CheckSourcePinned(handoff);
    for (const Handoff& handoff : handoffs_) CheckNobodyElseWrites(handoff);
  }

  // H2: into a landing block only the transport writes.
  void CheckNobodyElseWrites(const Handoff& handoff) {
    if (!handoff.landing) return;
    const TestKv& kv = nodes_[1 - handoff.from].kv;
    for (const BlockId block : handoff.target.landing_blocks) ASSERT_TRUE(kv.IsScribbled(block));
  }

  // H7: what is being sent stays where and as it was computed, whatever was aborted, until Release.
  void CheckSourcePinned(Handoff& handoff) {
    Node& from = nodes_[handoff.from];
    if (handoff.source_watched && handoff.source_blocks.empty()) {
      const auto blocks = from.scheduler->BlockTable(handoff.source, 0);
      handoff.source_blocks.assign(blocks.begin(), blocks.end());
    }
    if (handoff.source_blocks.empty()) return;  // never started
    const auto blocks = from.scheduler->BlockTable(handoff.source, 0);
    ASSERT_TRUE(std::ranges::equal(blocks, handoff.source_blocks));
    if (Ready(handoff)) handoff.computed = from.watched.at(handoff.source).spec;
    if (handoff.computed) {
      ASSERT_TRUE(HoldsKvOf(*handoff.computed, blocks, from.kv.region()));
    }
  }

  void Drain() {
    for (int i = 0; i < 20000 && !testing::Test::HasFailure(); ++i) {
      FinishOneHandoff();
      ReleaseOne();
      // Handoffs in both directions can wait for one another's blocks: leases end that.
      if (i % 500 == 499) FailOneHandoff();
      bool busy = !handoffs_.empty();
      for (Node& node : nodes_) {
        busy |= !node.watched.empty();
        if (node.scheduler->HasWork()) node.Step(nullptr);
        node.scheduler->CheckInvariants();
      }
      if (!busy) break;
    }
    EXPECT_TRUE(handoffs_.empty());
    for (Node& node : nodes_) {
      EXPECT_TRUE(node.watched.empty()) << node.watched.size() << " sequences never ended";
      EXPECT_FALSE(node.scheduler->HasWork());
      EXPECT_EQ(node.scheduler->num_running(), 0);
      EXPECT_EQ(node.scheduler->num_waiting(), 0);
      const BlockCensus census = node.scheduler->Census();
      EXPECT_EQ(census.free + census.cached, node.options.num_blocks);
      EXPECT_TRUE(node.options.prefix_caching || census.cached == 0);
    }
  }

  void Collect() {
    for (const Node& node : nodes_) {
      reached.preemptions += static_cast<int64_t>(node.scheduler->preemptions_total());
      reached.hits += static_cast<int64_t>(node.scheduler->prefix_hit_tokens_total());
      reached.copies += node.copies;
      reached.failed += node.failed;
      reached.finished += node.finished_samples;
      reached.started_ahead += node.device.started_ahead;
    }
  }

  SpecSource source_;
  Node nodes_[2];
  std::vector<Handoff> handoffs_;
};

class OneAnswerTest : public testing::TestWithParam<int> {};

TEST_P(OneAnswerTest, TokensAreThoseOfASingleSequenceRun) {
  SCOPED_TRACE(testing::Message() << "seed " << GetParam());
  Workload(static_cast<uint64_t>(GetParam())).Run(600);
}
INSTANTIATE_TEST_SUITE_P(Seeds, OneAnswerTest, testing::Range(1, 61));

// The step in front of it is whole, and told.
TEST(StepAheadTest, OneThatCannotStartIsTheNextCallsError) {
  Node node("device", {.block_size = 4, .num_blocks = 16, .max_model_len = 64}, std::nullopt,
            /*on_device=*/true);
  GenerationSpec spec;
  spec.tokens = {1, 2, 3};
  spec.prompt_length = 3;
  spec.stopping = {.max_tokens = 20, .ignore_eos = true};
  const auto id = node.Add(spec, SequenceMode::kGenerate);
  ASSERT_TRUE(id.ok()) << id.status();
  node.Step(nullptr);
  node.device.starts_none_ahead = true;
  node.Step(nullptr);
  EXPECT_EQ(node.watched.at(*id).received[0], 2u);
  EXPECT_TRUE(absl::IsResourceExhausted(node.runner.Run(nullptr).status()));
  EXPECT_TRUE(absl::IsResourceExhausted(node.runner.Run(nullptr).status()));
}

// Runs after the seeds: instantiated suites come in the order of their definition.
class ReachedTest : public testing::TestWithParam<int> {};
TEST_P(ReachedTest, TheWorkloadsExercisedEverything) {
  std::printf(
      "finished %ld, preemptions %ld, hit tokens %ld, block copies %ld, kv_exhausted %ld, "
      "sealed %ld, quarantined %ld, aborted in a step %ld, steps ahead %ld, aborted beside them "
      "%ld, reserved %ld\n",
      reached.finished, reached.preemptions, reached.hits, reached.copies, reached.failed,
      reached.sealed, reached.quarantined, reached.aborted_in_step, reached.started_ahead,
      reached.aborted_beside, reached.reserved_beside);
  EXPECT_GT(reached.finished, 1000);
  EXPECT_GT(reached.preemptions, 100);
  EXPECT_GT(reached.hits, 1000);
  EXPECT_GT(reached.copies, 100);
  EXPECT_GT(reached.failed, 0);
  EXPECT_GT(reached.sealed, 100);
  EXPECT_GT(reached.quarantined, 0);
  EXPECT_GT(reached.aborted_in_step, 0);
  EXPECT_GT(reached.started_ahead, 500);
  EXPECT_GT(reached.aborted_beside, 0);
  EXPECT_GT(reached.reserved_beside, 10);
}
INSTANTIATE_TEST_SUITE_P(AllSeeds, ReachedTest, testing::Values(0));

}  // namespace
}  // namespace baton
