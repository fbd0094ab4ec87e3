#include "decode_worker/decode_core.h"

#include <gtest/gtest.h>

#include <functional>
#include <map>
#include <set>

#include "tests/unit/worker/fakes.h"

namespace baton {
namespace {

constexpr SessionId kRouter(1);
constexpr SessionId kOtherRouter(2);
constexpr RequestKey kKey{RequestId(7), 1};
constexpr int32_t kBlockSize = 4;
constexpr int32_t kVocab = 100;

GenerationSpec SpecOf(int32_t samples) {
  return {.tokens = std::vector<TokenId>(6, 5), .prompt_length = 6, .num_samples = samples};
}

SequenceEvent TokenOf(int32_t sample, int32_t index) {
  return {SequenceId(1), SequenceEvent::Token{{.sample = sample, .index = index, .token = 42}}};
}
SequenceEvent FinishedOf(int32_t sample) {
  return {SequenceId(1),
          SequenceEvent::BranchFinished{{.sample = sample, .reason = FinishReason::kLength}}};
}

// A core with recording ports, and each event that can reach it. Two samples unless told.
struct Bench {
  explicit Bench(int32_t num_samples = 2, int32_t credits = 4)
      : samples(num_samples),
        core({.block_size = kBlockSize,
              .vocab_size = kVocab,
              .max_batch_sequences = 8,
              .colocated = true,
              .credits = credits},
             scheduler, receiver, routers) {}

  const int32_t samples;
  Trace trace;
  FakeScheduler scheduler{trace};
  FakeReceiver receiver{trace};
  FakeRouters routers{trace};
  DecodeCore core;
  absl::Time now = absl::UnixEpoch();

  void Reserve(RequestKey key) {
    core.OnCommand(
        kRouter, ReserveCommand{.key = key, .spec = SpecOf(samples), .deadline = absl::Minutes(1)},
        now);
  }
  void Generate(RequestKey key) {
    core.OnCommand(
        kRouter, GenerateCommand{.key = key, .spec = SpecOf(samples), .deadline = absl::Minutes(1)},
        now);
  }
  void Abort(SessionId session, std::optional<int32_t> sample = std::nullopt) {
    core.OnCommand(session, AbortCommand{kKey, sample}, now);
  }
  void RunRow() {
    StepPlan plan;
    plan.rows.push_back({.sequence = SequenceId(1)});
    core.OnLayer(0, plan, now);
    core.OnLayer(1, plan, now);
  }
  void Engine(std::vector<SequenceEvent> events) {
    core.OnStep({.events = std::move(events)}, now);
  }
  void Receiver(decltype(ReceiverEvent::what) what) {
    core.OnHandoff(ReceiverEvent{kKey, std::move(what)}, now);
  }
  void Sealed(std::vector<TokenId> first_tokens = {1, 2}) {
    first_tokens.resize(static_cast<size_t>(samples), 3);
    Receiver(ReceiverEvent::Sealed{.tail = {std::move(first_tokens)}});
  }
};

// Brings kKey into `state`. A sealed or decoding key of a handoff is "released" when its landing
// is; the plain names still wait for Released.
void Reach(Bench& bench, const std::string& state) {
  if (state == "none") return;
  if (state == "queued" || state == "prefilling" || state == "generating") {
    bench.Generate(kKey);
    if (state == "queued") return;
    bench.RunRow();
    if (state == "prefilling") return;
    bench.Engine({TokenOf(0, 0), TokenOf(1, 0)});
    return;
  }
  bench.Reserve(kKey);
  if (state == "landing") return;
  if (state == "closing") {
    bench.Abort(kRouter);
    return;
  }
  bench.Sealed();
  if (state == "sealed") return;
  bench.RunRow();
  if (state == "decoding, released") bench.Receiver(ReceiverEvent::Released{});
}

// The core's name of a test state.
std::string CoreState(const std::string& state) {
  if (state == "generating" || state == "decoding, released") return "decoding";
  return state;
}

struct Row {
  std::string state, event, next, calls;
};

const std::map<std::string, std::function<void(Bench&)>>& Events() {
  static const auto& events = *new std::map<std::string, std::function<void(Bench&)>>{
      {"reserve same key", [](Bench& b) { b.Reserve(kKey); }},
      {"reserve higher attempt",
       [](Bench& b) {
         b.Reserve({kKey.request, 2});
       }},
      {"generate same key", [](Bench& b) { b.Generate(kKey); }},
      {"abort", [](Bench& b) { b.Abort(kRouter); }},
      {"abort sample", [](Bench& b) { b.Abort(kRouter, 1); }},
      {"abort sample twice",
       [](Bench& b) {
         b.Abort(kRouter, 1);
         b.Abort(kRouter, 1);
       }},
      {"abort every sample",
       [](Bench& b) {
         b.Abort(kRouter, 0);
         b.Abort(kRouter, 1);
       }},
      {"abort unknown sample", [](Bench& b) { b.Abort(kRouter, 2); }},
      {"abort by another router", [](Bench& b) { b.Abort(kOtherRouter); }},
      {"session end", [](Bench& b) { b.core.OnSessionEnd(kRouter, b.now); }},
      {"another session's end", [](Bench& b) { b.core.OnSessionEnd(kOtherRouter, b.now); }},
      {"row", [](Bench& b) { b.RunRow(); }},
      {"tokens",
       [](Bench& b) {
         b.Engine({TokenOf(0, 1), TokenOf(1, 1)});
       }},
      {"one sample finished",
       [](Bench& b) {
         b.Engine({TokenOf(0, 1), FinishedOf(0)});
       }},
      {"all samples finished",
       [](Bench& b) {
         b.Engine({TokenOf(0, 1),
                   FinishedOf(0),
                   TokenOf(1, 1),
                   FinishedOf(1),
                   {SequenceId(1), SequenceEvent::Done{}}});
       }},
      {"finished by the first tokens",
       [](Bench& b) {
         b.Engine({FinishedOf(0), FinishedOf(1), {SequenceId(1), SequenceEvent::Done{}}});
       }},
      {"done too early",
       [](Bench& b) {
         b.Engine({FinishedOf(0), {SequenceId(1), SequenceEvent::Done{}}});
       }},
      {"engine failed",
       [](Bench& b) {
         b.Engine({{SequenceId(1), SequenceEvent::Failed{absl::ResourceExhaustedError("full")}}});
       }},
      {"sealed", [](Bench& b) { b.Sealed(); }},
      {"sealed with a bad token",
       [](Bench& b) {
         b.Sealed({kVocab, 1});
       }},
      {"receiver failed",
       [](Bench& b) {
         b.Receiver(ReceiverEvent::Failed{HandoffFailure::kChecksum, "bad"});
       }},
      {"released", [](Bench& b) { b.Receiver(ReceiverEvent::Released{}); }},
      {"deadline",
       [](Bench& b) {
         b.now += absl::Minutes(1);
         b.core.OnTime(b.now);
       }},
      {"before the deadline",
       [](Bench& b) {
         b.now += absl::Seconds(59);
         b.core.OnTime(b.now);
       }},
      {"drain", [](Bench& b) { b.core.OnCommand(kRouter, DrainCommand{}, b.now); }},
      {"engine broken",
       [](Bench& b) { b.core.OnEngineBroken(absl::InternalError("broken"), b.now); }},
  };
  return events;
}

const std::vector<std::string>& States() {
  static const auto& states = *new std::vector<std::string>{
      "none",   "landing",    "sealed",     "decoding", "decoding, released",
      "queued", "prefilling", "generating", "closing"};
  return states;
}

bool IsOpen(const std::string& state) { return state != "none" && state != "closing"; }
bool IsHandoff(const std::string& state) {
  return state == "landing" || state == "sealed" || state.starts_with("decoding");
}

// What neither the engine nor the receiver can do.
bool IsImpossible(const std::string& state, const std::string& event) {
  static const std::set<std::string> engine_events = {
      "tokens", "one sample finished", "all samples finished", "finished by the first tokens",
      "done too early"};
  if (engine_events.contains(event) && (state == "landing" || state == "queued")) return true;
  if (event == "row" && state == "landing") return true;
  const bool receiver_event = event.starts_with("sealed") || event == "receiver failed";
  return receiver_event && IsOpen(state) && state != "landing";
}

std::vector<Row> Table() {
  const std::string reserve = "scheduler.Reserve; receiver.Open(blocks 0+2); reply Reserved";
  std::vector<Row> table = {
      {"none", "reserve same key", "landing", reserve},
      {"none", "reserve higher attempt", "none", reserve},
      {"none", "generate same key", "queued", "scheduler.Add"},
      {"landing", "sealed", "sealed", "scheduler.Seal; reply Sealed"},
      {"landing", "sealed with a bad token", "closing", "scheduler.Abort; reply Failed(internal)"},
      {"landing", "receiver failed", "closing", "scheduler.Abort; reply Failed(checksum)"},
      {"landing", "released", "none",
       "scheduler.Abort; scheduler.LandingReleased; reply Failed(internal)"},
      {"sealed", "released", "sealed", "scheduler.LandingReleased"},
      {"decoding", "released", "decoding", "scheduler.LandingReleased"},
      {"closing", "released", "none", "scheduler.LandingReleased"},
      {"closing", "reserve same key", "closing", "reply Refused(stale_attempt)"},
      {"closing", "generate same key", "closing", "reply Refused(stale_attempt)"},
      {"closing", "reserve higher attempt", "closing", reserve},
      {"sealed", "row", "decoding", "reply Joined"},
      {"queued", "row", "prefilling", ""},
  };
  for (const std::string& state : States()) {
    if (!IsOpen(state)) continue;
    const bool landing = state == "landing";
    const bool owes_release = IsHandoff(state) && state != "decoding, released";
    const std::string end = owes_release ? "closing" : "none";
    const std::string same = CoreState(state);
    const std::string cancel = landing ? "receiver.Abort; scheduler.Abort" : "scheduler.Abort";
    const auto add = [&](const char* event, const std::string& next, const std::string& calls) {
      table.push_back({state, event, next, calls});
    };
    add("reserve same key", same, "reply Refused(stale_attempt)");
    add("generate same key", same, "reply Refused(stale_attempt)");
    add("reserve higher attempt", end, cancel + "; reply Failed(aborted); " + reserve);
    add("abort", end, cancel + "; reply Failed(aborted)");
    const std::string branch =
        landing ? "reply Finished(1 abort)" : "scheduler.AbortBranch(1); reply Finished(1 abort)";
    add("abort sample", same, branch);
    add("abort sample twice", same, branch);
    add("abort every sample", end,
        (landing ? "" : std::string("scheduler.AbortBranch(0); ")) + "reply Finished(0 abort); " +
            cancel + "; reply Finished(1 abort)");
    add("session end", end, cancel);
    add("deadline", end, cancel + "; reply Failed(deadline)");
    add("engine broken", end, cancel + "; reply Failed(internal)");
    add("engine failed", end,
        landing ? "receiver.Abort; reply Failed(kv_exhausted)" : "reply Failed(kv_exhausted)");
    const std::string after_token = state == "prefilling" ? "decoding" : same;
    add("tokens", after_token, "reply Tokens(2)");
    add("one sample finished", after_token, "reply Tokens(1); reply Finished(0 length)");
    add("all samples finished", end,
        "reply Tokens(2); reply Finished(0 length); reply Finished(1 length)");
    add("finished by the first tokens", end, "reply Finished(0 length); reply Finished(1 length)");
    add("done too early", end, "reply Finished(0 length); reply Failed(internal)");
  }
  return table;
}

TEST(DecodeCoreTransitions, EveryStateAndEventDoesWhatTheTableSays) {
  std::map<std::pair<std::string, std::string>, Row> expected;
  for (const Row& row : Table()) expected[{row.state, row.event}] = row;
  for (const std::string& state : States()) {
    for (const auto& [event, apply] : Events()) {
      if (IsImpossible(state, event)) continue;
      SCOPED_TRACE(state + " + " + event);
      Bench bench;
      Reach(bench, state);
      ASSERT_EQ(bench.core.StateName(kKey), CoreState(state));
      bench.trace.Take();
      apply(bench);
      bench.core.CheckInvariants();
      const auto found = expected.find({state, event});
      const Row row =
          found == expected.end() ? Row{state, event, CoreState(state), ""} : found->second;
      EXPECT_EQ(bench.core.StateName(kKey), row.next);
      EXPECT_EQ(bench.trace.Take(), row.calls);
    }
  }
}

TEST(DecodeCore, AbortsASampleThatWasStoppedWhileLandingOnceItIsSealed) {
  Bench bench;
  bench.Reserve(kKey);
  bench.Abort(kRouter, 0);
  bench.trace.Take();
  bench.Sealed();
  EXPECT_EQ(bench.trace.Take(), "scheduler.Seal; scheduler.AbortBranch(0); reply Sealed");
  bench.RunRow();
  EXPECT_EQ(bench.trace.Take(), "reply Joined");
  bench.Engine({TokenOf(1, 1), FinishedOf(1), {SequenceId(1), SequenceEvent::Done{}}});
  EXPECT_EQ(bench.trace.Take(), "reply Tokens(1); reply Finished(1 length)");
}

TEST(DecodeCore, SaysNothingMoreOfASampleAfterItsEnd) {
  Bench bench;
  Reach(bench, "decoding");
  bench.Abort(kRouter, 0);
  bench.trace.Take();
  // The step that was running when the abort came may still have drawn a token and an end for it.
  bench.Engine({TokenOf(0, 1), FinishedOf(0), TokenOf(1, 1)});
  EXPECT_EQ(bench.trace.Take(), "reply Tokens(1)");
}

TEST(DecodeCore, MeasuresItsStagesInsideTheProcess) {
  Bench bench(/*num_samples=*/1);
  bench.Reserve(kKey);
  bench.now += absl::Milliseconds(100);
  bench.Sealed();
  bench.now += absl::Milliseconds(5);
  bench.RunRow();
  bench.now += absl::Milliseconds(20);
  bench.Engine({TokenOf(0, 1), FinishedOf(0)});
  const auto& finished = std::get<FinishedReply>(bench.routers.sent.back().reply.what);
  EXPECT_EQ(finished.times.decode_queue, absl::Milliseconds(5));
  EXPECT_EQ(finished.times.decode, absl::Milliseconds(20));
  EXPECT_EQ(finished.times.queue, absl::ZeroDuration());

  Bench both(/*num_samples=*/1);
  both.Generate(kKey);
  both.now += absl::Milliseconds(7);
  both.RunRow();
  both.now += absl::Milliseconds(30);
  both.Engine({TokenOf(0, 0)});
  both.now += absl::Milliseconds(40);
  both.Engine({TokenOf(0, 1), FinishedOf(0)});
  const auto& in_place = std::get<FinishedReply>(both.routers.sent.back().reply.what);
  EXPECT_EQ(in_place.times.queue, absl::Milliseconds(7));
  EXPECT_EQ(in_place.times.prefill, absl::Milliseconds(30));
  EXPECT_EQ(in_place.times.decode, absl::Milliseconds(40));
  EXPECT_EQ(in_place.times.decode_queue, absl::ZeroDuration());
}

TEST(DecodeCore, CountsCreditsFromTheBatchAndFromPromptsUnderWay) {
  Bench bench(/*num_samples=*/3, /*credits=*/2);
  EXPECT_EQ(bench.core.view().credits, 2);
  bench.Generate(kKey);
  EXPECT_EQ(bench.core.view().credits, 1);
  bench.Generate({RequestId(8), 1});
  EXPECT_EQ(bench.core.view().credits, 0);
  bench.trace.Take();
  bench.Generate({RequestId(9), 1});
  EXPECT_EQ(bench.trace.Take(), "reply Refused(no_room)");
  bench.RunRow();
  bench.Engine({TokenOf(0, 0)});
  EXPECT_EQ(bench.core.view().credits, 1);
}

TEST(DecodeCore, ADecodeWorkerTakesGenerateWithinItsCreditsAndRefusesPrefill) {
  Trace trace;
  FakeScheduler scheduler(trace);
  FakeReceiver receiver(trace);
  FakeRouters routers(trace);
  DecodeCore core({.block_size = kBlockSize,
                   .vocab_size = kVocab,
                   .max_batch_sequences = 64,
                   .colocated = false,
                   .credits = 1},
                  scheduler, receiver, routers);
  core.OnCommand(kRouter, GenerateCommand{.key = kKey, .spec = SpecOf(1)}, absl::UnixEpoch());
  EXPECT_EQ(trace.Take(), "scheduler.Add");
  EXPECT_EQ(core.view().credits, 63) << "its credits are the batch's room, for handoffs";
  core.OnCommand(kRouter, GenerateCommand{.key = {RequestId(99), 1}, .spec = SpecOf(1)},
                 absl::UnixEpoch());
  core.OnCommand(kRouter, PrefillCommand{.key = kKey, .spec = SpecOf(1)}, absl::UnixEpoch());
  EXPECT_EQ(trace.Take(), "reply Refused(no_room); reply Refused(invalid)");
}

TEST(DecodeCore, GivesTheSchedulerTheObjectiveAsItStandsAtArrival) {
  Bench bench;
  bench.now += absl::Seconds(3);
  bench.core.OnCommand(
      kRouter,
      ReserveCommand{.key = kKey,
                     .spec = SpecOf(1),
                     .objective = {.ttft_left = absl::Milliseconds(-20), .tpot_ms = 30}},
      bench.now);
  EXPECT_EQ(bench.scheduler.last_objective.arrived, bench.now);
  EXPECT_EQ(bench.scheduler.last_objective.first_token_due, bench.now - absl::Milliseconds(20));
  EXPECT_EQ(bench.scheduler.last_objective.tpot_ms, 30);
  bench.core.OnCommand(kRouter, GenerateCommand{.key = {RequestId(8), 1}, .spec = SpecOf(1)},
                       bench.now);
  EXPECT_EQ(bench.scheduler.last_objective.first_token_due, absl::InfiniteFuture());
  EXPECT_EQ(bench.scheduler.last_objective.tpot_ms, 0);
}

TEST(DecodeCore, RefusesAReserveThatFindsNoRoomAndTakesItLater) {
  Bench bench;
  bench.scheduler.next_add = absl::ResourceExhaustedError("no room");
  bench.Reserve(kKey);
  bench.scheduler.next_add = absl::InvalidArgumentError("never");
  bench.Reserve(kKey);
  EXPECT_EQ(bench.trace.Take(),
            "scheduler.Reserve; reply Refused(no_room); scheduler.Reserve; reply "
            "Refused(never_fits)");
  bench.scheduler.next_add = absl::OkStatus();
  bench.Reserve(kKey);
  EXPECT_EQ(bench.core.StateName(kKey), "landing");
}

}  // namespace
}  // namespace baton
