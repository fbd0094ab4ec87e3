// Recording doubles of the ports that the role cores call. All write to one trace, so that a test
// sees every call in order.
#pragma once

#include <map>
#include <string>
#include <vector>

#include "absl/strings/str_cat.h"
#include "absl/strings/str_join.h"
#include "common/strings.h"
#include "engine/scheduler/scheduler.h"
#include "kvtransfer/kv_receiver.h"
#include "kvtransfer/kv_sender.h"
#include "worker/messages.h"

namespace baton {

class Trace {
 public:
  void Add(std::string call) { calls_.push_back(std::move(call)); }
  // Everything since the last Take, joined by "; ".
  std::string Take() {
    std::string text = absl::StrJoin(calls_, "; ");
    calls_.clear();
    return text;
  }

 private:
  std::vector<std::string> calls_;
};

// Hands out sequence ids 1, 2, … and remembers nothing else.
class FakeScheduler final : public Scheduler {
 public:
  explicit FakeScheduler(Trace& trace) : trace_(trace) {}

  absl::Status next_add;      // what Add and Reserve answer
  absl::Status next_seal;     // what Seal answers
  int32_t first_missing = 0;  // what Reserve finds in the prefix cache, in tokens

  SequenceObjective last_objective;

  void SetStepModel(const StepModelTracker*) override {}
  absl::StatusOr<SequenceId> Add(GenerationSpec, SequenceMode,
                                 const SequenceObjective& objective) override {
    trace_.Add("scheduler.Add");
    last_objective = objective;
    if (!next_add.ok()) return next_add;
    return SequenceId(++last_id_);
  }
  absl::StatusOr<Reservation> Reserve(GenerationSpec, const SequenceObjective& objective) override {
    trace_.Add("scheduler.Reserve");
    last_objective = objective;
    if (!next_add.ok()) return next_add;
    return Reservation{.sequence = SequenceId(++last_id_),
                       .first_missing_token = first_missing,
                       .landing_blocks = {BlockId(0), BlockId(1)}};
  }
  absl::Status Seal(SequenceId, std::span<const TokenId>) override {
    trace_.Add("scheduler.Seal");
    return next_seal;
  }
  void LandingReleased(SequenceId) override { trace_.Add("scheduler.LandingReleased"); }
  void Release(SequenceId) override { trace_.Add("scheduler.Release"); }
  void Abort(SequenceId, bool keep_pinned) override {
    trace_.Add(keep_pinned ? "scheduler.Abort(pinned)" : "scheduler.Abort");
  }
  void AbortBranch(SequenceId, int32_t sample) override {
    trace_.Add(absl::StrCat("scheduler.AbortBranch(", sample, ")"));
  }
  const StepPlan& Plan() override { return plan_; }
  const StepPlan& PlanAhead() override { return plan_; }
  std::vector<SequenceEvent> Commit(std::span<const std::vector<SampledToken>>) override {
    return {};
  }
  std::vector<SequenceEvent> TakeEvents() override { return {}; }
  PrefixChanges TakePrefixChanges() override { return {}; }
  std::vector<uint64_t> PrefixHashes() const override { return {}; }
  bool HasWork() const override { return false; }
  bool InStep() const override { return false; }
  BlockCensus Census() const override { return {}; }
  int32_t num_running() const override { return 0; }
  int32_t num_waiting() const override { return 0; }
  StepShape WorkAtHand() const override { return {}; }
  uint64_t preemptions_total() const override { return 0; }
  uint64_t prefix_query_tokens_total() const override { return 0; }
  uint64_t prefix_hit_tokens_total() const override { return 0; }
  std::span<const TokenId> Tokens(SequenceId, int32_t) const override { return {}; }
  const GenerationSpec& Spec(SequenceId) const override { return spec_; }
  std::span<const BlockId> BlockTable(SequenceId, int32_t) const override { return {}; }
  void CheckInvariants() const override {}

 private:
  Trace& trace_;
  uint64_t last_id_ = 0;
  StepPlan plan_;
  GenerationSpec spec_;
};

class FakeSender final : public KvSender {
 public:
  explicit FakeSender(Trace& trace) : trace_(trace) {}
  struct Pushed {
    int32_t layer = 0;
    int32_t first_block = 0;
    std::vector<BlockId> blocks;
  };
  std::vector<Pushed> pushes;

  void Open(SendSpec) override { trace_.Add("sender.Open"); }
  void Push(RequestKey, int32_t layer, int32_t first_block, std::vector<BlockId> blocks) override {
    trace_.Add(absl::StrCat("sender.Push(layer ", layer, " blocks ", first_block, "+",
                            blocks.size(), ")"));
    pushes.push_back({layer, first_block, std::move(blocks)});
  }
  void Finish(RequestKey, HandoffTail tail) override {
    trace_.Add(absl::StrCat("sender.Finish(", absl::StrJoin(tail.first_tokens, ","), ")"));
  }
  void Abort(RequestKey) override { trace_.Add("sender.Abort"); }

 private:
  Trace& trace_;
};

class FakeReceiver final : public KvReceiver {
 public:
  explicit FakeReceiver(Trace& trace) : trace_(trace) {}
  PeerAddress address() const override { return {}; }
  Ticket Open(LandingSpec spec) override {
    trace_.Add(
        absl::StrCat("receiver.Open(blocks ", spec.first_block, "+", spec.blocks.size(), ")"));
    return Ticket{.key = spec.key, .generation = ++generation_};
  }
  void Abort(RequestKey) override { trace_.Add("receiver.Abort"); }

 private:
  Trace& trace_;
  uint64_t generation_ = 0;
};

class FakeRouters final : public RouterPort {
 public:
  explicit FakeRouters(Trace& trace) : trace_(trace) {}
  struct Sent {
    SessionId session;
    WorkerReply reply;
  };
  std::vector<Sent> sent;

  void Send(SessionId session, WorkerReply reply) override {
    trace_.Add(absl::StrCat("reply ", Describe(reply)));
    sent.push_back({session, std::move(reply)});
  }

  static std::string Describe(const WorkerReply& reply) {
    struct Visitor {
      std::string operator()(const ReservedReply&) const { return "Reserved"; }
      std::string operator()(const RefusedReply& refused) const {
        return absl::StrCat("Refused(", View(RefuseReasonName(refused.reason)), ")");
      }
      std::string operator()(const TokensReply& tokens) const {
        return absl::StrCat("Tokens(", tokens.tokens.size(), ")");
      }
      std::string operator()(const PromptLogprobsReply& prompt) const {
        return absl::StrCat("PromptLogprobs(", prompt.tokens.size(), ")");
      }
      std::string operator()(const PrefillDoneReply&) const { return "PrefillDone"; }
      std::string operator()(const SealedReply&) const { return "Sealed"; }
      std::string operator()(const JoinedReply&) const { return "Joined"; }
      std::string operator()(const FinishedReply& finished) const {
        return absl::StrCat("Finished(", finished.finish.sample, " ",
                            View(FinishReasonName(finished.finish.reason)), ")");
      }
      std::string operator()(const FailedReply& failed) const {
        return absl::StrCat("Failed(", View(FailReasonName(failed.reason)), ")");
      }
    };
    return std::visit(Visitor{}, reply.what);
  }

 private:
  Trace& trace_;
};

}  // namespace baton
