// What the router core does with workers that have become slow, and with pairs whose handoffs fail.
#include <gmock/gmock.h>

#include <array>
#include <set>

#include "tests/unit/router/core/core_fixture.h"

namespace baton::router {
namespace {

using ::testing::ElementsAre;
using ::testing::IsEmpty;
using ::testing::SizeIs;

constexpr StepModel kModel{.prefill_base_ms = 2,
                           .prefill_token_ms = 0.1,
                           .decode_base_ms = 5,
                           .decode_row_ms = 1,
                           .profiled_prefill_tokens = 100,
                           .profiled_decode_rows = 10};

class GrayTest : public CoreTest {
 protected:
  GrayTest() {
    options_.conditional_disaggregation = false;
    options_.admission.mode = AdmissionMode::kOff;
    model_ = kModel;
  }
  // One decode worker of two becomes slow.
  void UpThree() {
    Up(0, Role::kPrefill, 64);
    Up(1, Role::kDecode);
    Up(2, Role::kDecode);
  }
  // All that are up make their steps, of 10 ms as calibrated, and report once a second.
  void Beat(int seconds) {
    for (; seconds > 0; --seconds) {
      Advance(absl::Seconds(1));
      for (int32_t i = 0; i < 4; ++i) {
        const auto at = static_cast<size_t>(i);
        if (!core().cluster().worker(WorkerIndex(i)).alive) continue;
        WorkerReport& report = reports_[at];
        report.steps_completed += a_second_[at];
        const double calibrated_ms = 10.0 * static_cast<double>(a_second_[at]);
        report.step_time.calibrated_ms += calibrated_ms;
        report.step_time.measured_ms += calibrated_ms * slowness_[at];
        report.free_blocks = 100;
        report.credits = 64;
        Feed(WorkerReportEvent{From(i), report});
      }
    }
  }
  void Eject() {
    slowness_[1] = 10;
    Beat(14);
    const std::vector<NoteStanding> notes = All<NoteStanding>();
    ASSERT_THAT(notes, SizeIs(1));
    EXPECT_EQ(notes[0].worker, WorkerIndex(1));
    EXPECT_EQ(notes[0].standing, Standing::kOut);
    EXPECT_EQ(core().cluster().NumEjected(Role::kDecode), 1);
  }
  // Where the handoffs that started since the last call decode.
  std::multiset<int32_t> Decoders() {
    std::multiset<int32_t> workers;
    for (const SendReserve& reserve : All<SendReserve>()) {
      workers.insert(reserve.worker.value());
      keys_.push_back({reserve.worker, reserve.key});
    }
    return workers;
  }
  void SubmitMany(uint64_t first, uint64_t count) {
    for (uint64_t id = first; id < first + count; ++id) Submit(id);
  }
  Standing Of(int32_t worker) { return core().cluster().worker(WorkerIndex(worker)).standing; }

  std::array<double, 4> slowness_ = {1, 1, 1, 1};
  std::array<uint64_t, 4> a_second_ = {10, 10, 10, 10};
  std::array<WorkerReport, 4> reports_;
  std::vector<std::pair<WorkerIndex, RequestKey>> keys_;
};

TEST_F(GrayTest, AnEjectedWorkerGetsNothingNewAndKeepsWhatItHas) {
  UpThree();
  Submit(1);
  const RequestKey key = Decode(2);
  const int32_t holder = core().Find(RequestId(1))->decode.value();
  slowness_[static_cast<size_t>(holder)] = 10;
  Beat(14);
  EXPECT_EQ(Of(holder), Standing::kOut);
  All<EmitToken>();
  SubmitMany(2, 5);
  const int32_t other = 3 - holder;
  EXPECT_THAT(Decoders(), ElementsAre(other, other, other, other, other));
  Feed(TokensEvent{From(holder), key, {{0, 2, 102}}});
  EXPECT_THAT(All<EmitToken>(), SizeIs(1));
  Finish(From(holder), key, 3);
  EXPECT_EQ(One<CompleteRequest>().request, RequestId(1));
}

TEST_F(GrayTest, WhileProbingItTakesOneRequestAtATime) {
  UpThree();
  Eject();
  a_second_[1] = 0;
  Beat(5);
  ASSERT_EQ(Of(1), Standing::kProbing);
  EXPECT_EQ(core().cluster().NumAccepting(Role::kDecode), 1) << "nobody counts on it";
  Decoders();
  SubmitMany(1, 6);
  std::multiset<int32_t> decoders = Decoders();
  EXPECT_EQ(decoders.count(1), 1u);
  EXPECT_EQ(decoders.count(2), 5u);
  for (const auto& [worker, key] : keys_) {
    if (worker == WorkerIndex(1)) Feed(CancelEvent{key.request});
  }
  Advance(absl::Milliseconds(100));  // the prefill worker has done what it had
  SubmitMany(10, 4);
  decoders = Decoders();
  EXPECT_EQ(decoders.count(1), 1u) << "when that has ended, the next one";
  slowness_[1] = 1;
  a_second_[1] = 10;
  Beat(2);
  EXPECT_EQ(Of(1), Standing::kIn);
  EXPECT_EQ(core().cluster().NumEjected(Role::kDecode), 0);
  SubmitMany(20, 4);
  EXPECT_GT(Decoders().count(1), 1u);
}

TEST_F(GrayTest, AdmissionDoesNotCountOnAProbingWorker) {
  options_.admission.mode = AdmissionMode::kPredict;
  UpThree();
  Eject();
  a_second_[1] = 0;
  Beat(5);
  ASSERT_EQ(Of(1), Standing::kProbing);
  // One goes there, and five beside one another meet 10 ms on the other; there is no third place.
  SubmitMany(1, 8);
  const std::vector<FailRequest> refused = All<FailRequest>();
  ASSERT_FALSE(refused.empty());
  EXPECT_EQ(refused[0].verdict, Verdict::kTpot);
}

TEST_F(GrayTest, TheLastOfItsRoleServesHoweverSlowItIs) {
  UpThree();
  Eject();
  Submit(1);
  EXPECT_THAT(Decoders(), ElementsAre(2));
  Down(2);
  EXPECT_TRUE(core().cluster().CanServe());
  EXPECT_EQ(Of(1), Standing::kIn);
  EXPECT_EQ(One<NoteStanding>().standing, Standing::kIn);
  EXPECT_THAT(Decoders(), ElementsAre(1)) << "what the other one held goes there";
  Beat(60);
  EXPECT_EQ(Of(1), Standing::kIn);
}

TEST_F(GrayTest, ADrainOfTheOtherOneBringsItBackToo) {
  UpThree();
  Eject();
  Submit(1);
  const SendReserve reserve = One<SendReserve>();
  ASSERT_EQ(reserve.worker, WorkerIndex(2));
  Feed(RefusedEvent{From(2), reserve.key, RefusalReason::kDraining, ""});
  EXPECT_THAT(Decoders(), ElementsAre(1));
  EXPECT_EQ(One<NoteStanding>().standing, Standing::kIn);
}

TEST_F(GrayTest, ARetryNeedsNoEjectedWorker) {
  UpThree();
  Eject();
  Submit(1);
  const RequestKey key = Decode(1);
  Feed(FailedEvent{From(2), key, FailureReason::kInternal, ""});
  EXPECT_THAT(Decoders(), ElementsAre(2));
}

TEST_F(GrayTest, ANewProcessIsInServiceAtOnce) {
  UpThree();
  Eject();
  Down(1);
  EXPECT_THAT(All<NoteStanding>(), IsEmpty()) << "it is down, not back";
  reports_[1] = {};
  Up(1, Role::kDecode);
  EXPECT_EQ(core().cluster().NumAccepting(Role::kDecode), 2);
  EXPECT_EQ(core().cluster().NumEjected(Role::kDecode), 0);
}

// ------------------------------------------------------------------ pairs

class PairTest : public CoreTest {
 protected:
  PairTest() { options_.conditional_disaggregation = false; }
  // Brings the next handoff to where KV is on its way. Its workers.
  std::pair<WorkerPair, RequestKey> Transfer() {
    const SendReserve reserve = One<SendReserve>();
    Feed(ReservedEvent{From(reserve.worker.value()), reserve.key, "ticket", 0});
    const SendPrefill prefill = One<SendPrefill>();
    Feed(TokensEvent{From(prefill.worker.value()), reserve.key, {{0, 0, 100}}});
    Feed(PrefillDoneEvent{From(prefill.worker.value()), reserve.key, 0, 1, 20});
    return {{prefill.worker, reserve.worker}, reserve.key};
  }
  void Corrupt(const std::pair<WorkerPair, RequestKey>& handoff) {
    Feed(FailedEvent{From(handoff.first.decode.value()), handoff.second, FailureReason::kChecksum,
                     ""});
  }
  void Seal(const std::pair<WorkerPair, RequestKey>& handoff, int64_t kv_bytes = 500) {
    Feed(SealedEvent{From(handoff.first.decode.value()), handoff.second, kv_bytes, 4, 2, "shm", 0});
  }
  void End(const std::pair<WorkerPair, RequestKey>& handoff) {
    Finish(From(handoff.first.decode.value()), handoff.second, 1);
  }
  // Requests until the pair is out; only it fails.
  void Eject(const WorkerPair& pair) {
    while (core().pairs().standing(pair) == Standing::kIn) {
      Submit(++next_);
      auto handoff = Transfer();
      if (handoff.first == pair) {
        Corrupt(handoff);
        handoff = Transfer();
        // A retry goes elsewhere, on both sides if it can.
        EXPECT_NE(handoff.first.prefill, pair.prefill);
        if (core().cluster().NumAlive(Role::kDecode) > 1) {
          EXPECT_NE(handoff.first.decode, pair.decode);
        }
      }
      Seal(handoff);
      held_.push_back(handoff);  // so that the load is spread
      ASSERT_LT(next_, 60u);
    }
    for (const auto& handoff : held_) End(handoff);
    All<EmitToken>(), All<EmitSampleFinish>(), All<CompleteRequest>(), All<SendAbort>();
    EXPECT_EQ(One<NotePairStanding>().standing, Standing::kOut);
  }

  uint64_t next_ = 0;
  std::vector<std::pair<WorkerPair, RequestKey>> held_;
};

constexpr WorkerPair kBad{WorkerIndex(0), WorkerIndex(2)};

TEST_F(PairTest, APairWhoseHandoffsFailIsKeptApartWhileBothServeOthers) {
  Up(0, Role::kPrefill, 64);
  Up(1, Role::kPrefill, 64);
  Up(2, Role::kDecode);
  Up(3, Role::kDecode);
  options_.retry_ratio = 1;
  Eject(kBad);
  std::set<WorkerPair> used;
  for (int i = 0; i < 12; ++i) {
    Submit(++next_);
    const auto handoff = Transfer();
    used.insert(handoff.first);
    Seal(handoff);
  }
  EXPECT_FALSE(used.contains(kBad));
  EXPECT_TRUE(used.contains({WorkerIndex(0), WorkerIndex(3)}));
  EXPECT_TRUE(used.contains({WorkerIndex(1), WorkerIndex(2)}));
  EXPECT_EQ(core().pairs().num_out(), 1);
}

TEST_F(PairTest, OneProbeAfterAPauseBringsItBack) {
  Up(0, Role::kPrefill, 64);
  Up(1, Role::kPrefill, 64);
  Up(2, Role::kDecode);
  Up(3, Role::kDecode);
  Eject(kBad);
  options_.cluster.heartbeat = absl::Hours(1);
  now_ += absl::Seconds(5);
  const auto probe = [&] {
    for (int i = 0; i < 40; ++i) {
      Submit(++next_);
      const auto handoff = Transfer();
      if (handoff.first == kBad) return handoff;
      Seal(handoff);
    }
    ADD_FAILURE() << "it is not tried";
    return std::pair<WorkerPair, RequestKey>{};
  };
  const auto first = probe();
  EXPECT_EQ(core().pairs().standing(kBad), Standing::kProbing);
  for (int i = 0; i < 12; ++i) {
    Submit(++next_);
    const auto handoff = Transfer();
    EXPECT_NE(handoff.first, kBad) << "one at a time";
    Seal(handoff);
  }
  Feed(CancelEvent{first.second.request});
  EXPECT_EQ(core().pairs().standing(kBad), Standing::kOut) << "that said nothing";
  const auto cached = probe();
  Seal(cached, /*kv_bytes=*/0);
  EXPECT_EQ(core().pairs().standing(kBad), Standing::kOut) << "neither did one without a byte";
  Seal(probe());
  EXPECT_EQ(core().pairs().standing(kBad), Standing::kIn);
  EXPECT_EQ(core().pairs().num_out(), 0);
}

TEST_F(PairTest, WithoutAnotherPairItIsTheLastResort) {
  options_.retry_ratio = 1;
  Up(0, Role::kPrefill, 64);
  Up(2, Role::kDecode);
  for (uint64_t id = 1; id <= 2; ++id) {
    Submit(id);
    Corrupt(Transfer());
    Corrupt(Transfer());
    EXPECT_EQ(One<FailRequest>().error.code, RequestErrorCode::kPrefillLost);
  }
  EXPECT_EQ(core().pairs().standing(kBad), Standing::kOut);
  Submit(3);
  const auto handoff = Transfer();
  Seal(handoff);
  End(handoff);
  EXPECT_EQ(One<CompleteRequest>().request, RequestId(3)) << "what still goes through is served";
}

TEST_F(PairTest, WaitsForAnotherPairThatIsOnlyBusy) {
  Up(0, Role::kPrefill, 64);
  Up(1, Role::kPrefill, 1);
  Up(2, Role::kDecode);
  Eject(kBad);
  Submit(100);
  EXPECT_EQ(One<SendReserve>().key.request, RequestId(100));
  Submit(101);
  EXPECT_THAT(All<SendReserve>(), IsEmpty()) << "worker 1 has no credit, worker 0 cannot reach it";
  Feed(CancelEvent{RequestId(100)});
  EXPECT_EQ(One<SendReserve>().key.request, RequestId(101));
}

TEST_F(PairTest, ALinkThatIsCutIsChargedToThePair) {
  options_.retry_ratio = 1;
  Up(0, Role::kPrefill, 64);
  Up(2, Role::kDecode);
  Up(3, Role::kDecode);
  const auto bad = [&] {
    Submit(++next_);
    return Transfer();
  };
  for (int failures = 0; failures < 3;) {
    auto handoff = bad();
    if (handoff.first == kBad) {
      ++failures;
      // Either end may say so first.
      Feed(FailedEvent{From(failures == 1 ? 2 : 0), handoff.second, FailureReason::kPeerLost, ""});
      handoff = Transfer();
      EXPECT_EQ(handoff.first.decode, WorkerIndex(3)) << "the only prefill worker, another decode";
    }
    Seal(handoff);
    ASSERT_LT(next_, 40u);
  }
  EXPECT_EQ(core().pairs().standing(kBad), Standing::kOut);
  EXPECT_THAT(All<FailRequest>(), IsEmpty());
}

TEST_F(PairTest, ADeathIsNotChargedToThePairs) {
  Up(0, Role::kPrefill, 64);
  Up(1, Role::kPrefill, 64);
  Up(2, Role::kDecode);
  Eject(kBad);
  Down(2);
  EXPECT_EQ(core().pairs().num_out(), 0);
  Up(2, Role::kDecode);
  EXPECT_EQ(core().pairs().standing(kBad), Standing::kIn);
}

}  // namespace
}  // namespace baton::router
