// Random schedules over both role cores with the real scheduler and a simulated KV link: requests,
// aborts, lost sessions, link faults and deadlines in any order, also in the middle of a step.
// Checked after every event: the books of cores and schedulers; on every row: that the KV which it
// attends to is that of its own tokens; of every message: that its token is the one that a single
// sequence would give, and that each key ends exactly once. At the end nothing is held.
#include <gtest/gtest.h>

#include <random>
#include <set>

#include "common/hash.h"
#include "decode_worker/decode_core.h"
#include "engine/scheduler/scheduler.h"
#include "prefill_worker/prefill_core.h"
#include "tests/unit/worker/sim_link.h"

namespace baton {
namespace {

constexpr int32_t kLayers = 2;
constexpr int32_t kBlockSize = 4;
constexpr int32_t kBlocks = 24;
constexpr int32_t kVocab = 50;

// The content of one KV slot and the next token: functions of the tokens before it alone.
uint64_t PrefixHash(std::span<const TokenId> tokens) {
  uint64_t hash = 1;
  for (const TokenId token : tokens) hash = HashCombine(hash, static_cast<uint64_t>(token));
  return hash;
}
TokenId NextToken(std::span<const TokenId> tokens, size_t draw) {
  return static_cast<TokenId>(HashCombine(PrefixHash(tokens), draw) % kVocab);
}
uint64_t KvOf(int32_t layer, std::span<const TokenId> tokens) {
  return HashCombine(PrefixHash(tokens), static_cast<uint64_t>(layer) + 1000);
}

struct Worker {
  SimMemory memory{kLayers, kBlocks, kBlockSize};
  std::unique_ptr<Scheduler> scheduler = Scheduler::Create({.block_size = kBlockSize,
                                                            .num_blocks = kBlocks,
                                                            .max_model_len = 64,
                                                            .max_batch_sequences = 8,
                                                            .max_batch_tokens = 12,
                                                            .prefill_chunk_tokens = 7,
                                                            .max_waiting = 16,
                                                            .eos_tokens = {0}});
  RoleCore* core = nullptr;
};

class World final : public RouterPort {
 public:
  explicit World(uint64_t seed) : random_(seed) {
    prefill_.core = &prefill_core_;
    decode_.core = &decode_core_;
  }

  void Run(int events) {
    for (int i = 0; i < events; ++i) {
      OneEvent();
      Check();
    }
    Settle();
  }

  int finished() const { return finished_; }
  int failed() const { return failed_; }
  int sealed() const { return sealed_; }

  // RouterPort: both workers answer here; a key's replies tell them apart.
  void Send(SessionId session, WorkerReply reply) override {
    ASSERT_TRUE(sessions_.contains(session)) << "a reply to a session that ended";
    Request& request = requests_.at(reply.key);
    Side& side = InPrefill() ? request.prefill : request.decode;
    ASSERT_FALSE(side.ended) << reply.key << " said something after its end";
    if (const auto* reserved = std::get_if<ReservedReply>(&reply.what)) {
      to_prefill_.push_back({session, reply.key, *reserved});
    } else if (const auto* tokens = std::get_if<TokensReply>(&reply.what)) {
      for (const TokenOutput& token : tokens->tokens) CheckToken(request, side, token);
    } else if (const auto* finished = std::get_if<FinishedReply>(&reply.what)) {
      ASSERT_TRUE(side.finished.insert(finished->finish.sample).second) << reply.key;
      side.ended = static_cast<int32_t>(side.finished.size()) == request.spec.num_samples;
      finished_ += side.ended;
      if (finished->finish.reason != FinishReason::kAborted) {
        EXPECT_EQ(finished->finish.output_tokens,
                  static_cast<int32_t>(request.Expected(finished->finish.sample).size()));
      }
    } else if (std::holds_alternative<RefusedReply>(reply.what)) {
      side.ended = side.refused = true;
    } else if (std::holds_alternative<FailedReply>(reply.what)) {
      side.ended = true;
      ++failed_;
    } else if (std::holds_alternative<SealedReply>(reply.what)) {
      ++sealed_;
    }
  }

 private:
  struct Side {
    bool ended = false;
    bool refused = false;
    std::set<int32_t> finished;
    std::map<int32_t, int32_t> next_index;  // by sample
  };
  struct Request {
    SessionId session;
    GenerationSpec spec;
    Side prefill, decode;

    std::vector<TokenId> Expected(int32_t sample) const {
      std::vector<TokenId> tokens = spec.tokens;
      std::vector<TokenId> output;
      while (static_cast<int32_t>(output.size()) < spec.stopping.max_tokens) {
        const auto draw = output.empty() ? static_cast<size_t>(sample) : 0;
        output.push_back(NextToken(tokens, draw));
        tokens.push_back(output.back());
        if (output.back() == 0 || tokens.size() >= 64) break;
      }
      return output;
    }
  };
  struct ToPrefill {
    SessionId session;
    RequestKey key;
    ReservedReply reserved;
  };

  uint64_t Below(uint64_t limit) { return random_() % limit; }
  bool InPrefill() const { return acting_ == &prefill_; }

  void CheckToken(const Request& request, Side& side, const TokenOutput& token) {
    const std::vector<TokenId> expected = request.Expected(token.sample);
    ASSERT_LT(token.index, static_cast<int32_t>(expected.size()));
    EXPECT_EQ(token.token, expected[static_cast<size_t>(token.index)]);
    const auto [next, is_new] = side.next_index.emplace(token.sample, token.index);
    EXPECT_EQ(token.index, next->second) << "a gap or a repetition";
    next->second = token.index + 1;
    if (is_new) {
      // A handoff's decode side goes on where prefill stopped.
      const bool handed_over = &side == &request.decode && request.prefill.next_index.size() > 0;
      EXPECT_EQ(token.index, handed_over ? 1 : 0);
    }
  }

  template <typename Do>
  void Act(Worker& worker, Do act) {
    Worker* const before = std::exchange(acting_, &worker);
    act(*worker.core);
    acting_ = before;
  }

  void OneEvent() {
    switch (Below(16)) {
      case 0:
        return NewRequest();
      case 1:
        return PassOnReserved();
      case 2:
        return RandomCommand();
      case 3:
        if (Below(8) == 0) return EndSession();
        return;
      case 4:
        now_ += absl::Milliseconds(Below(40));
        Act(prefill_, [&](RoleCore& core) { core.OnTime(now_); });
        return Act(decode_, [&](RoleCore& core) { core.OnTime(now_); });
      case 5:
      case 6:
        return Step(prefill_);
      case 7:
      case 8:
        return Step(decode_);
      default:
        return LinkEvent();
    }
  }

  SessionId RandomSession() {
    if (sessions_.empty()) sessions_.insert(SessionId(next_session_++));
    return *std::next(sessions_.begin(), static_cast<ptrdiff_t>(Below(sessions_.size())));
  }

  void NewRequest() {
    if (Below(4) == 0) sessions_.insert(SessionId(next_session_++));
    const SessionId session = RandomSession();
    // Few different prompts, so that prefix caches hit on both sides.
    const auto length = static_cast<size_t>(1 + Below(20));
    std::vector<TokenId> tokens(length);
    const uint64_t family = Below(3);
    for (size_t i = 0; i < length; ++i) {
      tokens[i] = static_cast<TokenId>(1 + HashCombine(family, i) % (kVocab - 1));
    }
    GenerationSpec spec{.tokens = tokens,
                        .prompt_length = static_cast<int32_t>(length),
                        .num_samples = 1 + static_cast<int32_t>(Below(3)),
                        .stopping = {.max_tokens = 1 + static_cast<int32_t>(Below(12))}};
    RequestKey key{RequestId(next_request_), 1};
    if (Below(6) == 0 && next_request_ > 1) {  // another attempt of an older request
      key.request = RequestId(1 + Below(next_request_ - 1));
      key.attempt = static_cast<uint32_t>(1 + Below(4));
      if (requests_.contains(key)) return Duplicate(key);
    } else {
      ++next_request_;
    }
    requests_.emplace(key, Request{.session = session, .spec = spec});
    const absl::Duration deadline = absl::Milliseconds(1 + Below(3000));
    Act(decode_, [&](RoleCore& core) {
      if (Below(3) == 0) {
        core.OnCommand(session, GenerateCommand{key, spec, deadline}, now_);
      } else {
        core.OnCommand(session, ReserveCommand{key, spec, deadline}, now_);
      }
    });
  }

  // A repeated command of an accepted key changes nothing; its Refused is not the key's end.
  void Duplicate(RequestKey key) {
    Request& request = requests_.at(key);
    if (request.decode.refused || !sessions_.contains(request.session)) return;
    const bool was_ended = std::exchange(request.decode.ended, false);
    Act(decode_, [&](RoleCore& core) {
      core.OnCommand(request.session, ReserveCommand{key, request.spec}, now_);
    });
    EXPECT_TRUE(request.decode.ended) << key << " was accepted twice";
    request.decode.ended = was_ended;
    request.decode.refused = false;
  }

  void PassOnReserved() {
    if (to_prefill_.empty()) return;
    const size_t at = Below(to_prefill_.size());
    const ToPrefill next = to_prefill_[at];
    to_prefill_.erase(to_prefill_.begin() + static_cast<ptrdiff_t>(at));
    if (!sessions_.contains(next.session)) return;
    Act(prefill_, [&](RoleCore& core) {
      core.OnCommand(next.session,
                     PrefillCommand{.key = next.key,
                                    .spec = requests_.at(next.key).spec,
                                    .deadline = absl::Milliseconds(1 + Below(3000)),
                                    .ticket = next.reserved.ticket,
                                    .first_missing_token = next.reserved.first_missing_token},
                     now_);
    });
  }

  void RandomCommand() {
    if (requests_.empty()) return;
    const auto at = std::next(requests_.begin(), static_cast<ptrdiff_t>(Below(requests_.size())));
    const SessionId session = at->second.session;
    if (!sessions_.contains(session)) return;
    AbortCommand abort{.key = at->first};
    if (Below(2) == 0) abort.sample = static_cast<int32_t>(Below(4));
    Act(Below(3) == 0 ? prefill_ : decode_,
        [&](RoleCore& core) { core.OnCommand(session, abort, now_); });
  }

  void EndSession() {
    const SessionId session = RandomSession();
    sessions_.erase(session);
    Act(prefill_, [&](RoleCore& core) { core.OnSessionEnd(session, now_); });
    Act(decode_, [&](RoleCore& core) { core.OnSessionEnd(session, now_); });
  }

  void LinkEvent() {
    const std::vector<RequestKey> sends = link_.Sends();
    const std::vector<RequestKey> landings = link_.Landings();
    const uint64_t what = Below(40);
    if (what == 0 && !sends.empty()) {
      link_.FailSend(sends[Below(sends.size())], HandoffFailure::kPeerLost);
    } else if (what == 1 && !landings.empty()) {
      link_.FailLanding(landings[Below(landings.size())], HandoffFailure::kChecksum);
    } else if (what < 24 && !sends.empty()) {
      const RequestKey key = sends[Below(sends.size())];
      link_.CopyOne(key);
      link_.TrySeal(key);
    } else if (what < 32 && !sends.empty()) {
      const RequestKey key = sends[Below(sends.size())];
      if (auto event = link_.TakeSenderEvent(key)) {
        Act(prefill_, [&](RoleCore& core) { core.OnHandoff(*event, now_); });
      }
    } else if (!landings.empty()) {
      const RequestKey key = landings[Below(landings.size())];
      if (auto event = link_.TakeReceiverEvent(key)) {
        Act(decode_, [&](RoleCore& core) { core.OnHandoff(*event, now_); });
      }
    }
  }

  void Step(Worker& worker) {
    Scheduler& scheduler = *worker.scheduler;
    StepResult result{.events = scheduler.TakeEvents()};
    if (!result.events.empty()) {
      Act(worker, [&](RoleCore& core) { core.OnStep(std::move(result), now_); });
    }
    if (!scheduler.HasWork()) return;
    const StepPlan& plan = scheduler.Plan();
    for (const KvBlockCopy& copy : plan.copies) {
      for (int32_t layer = 0; layer < kLayers; ++layer) {
        worker.memory.CopyBlock(worker.memory, layer, copy.from, copy.to);
      }
    }
    // The forward pass reads the tokens as they are now: an abort during the step may forget them.
    std::vector<std::vector<TokenId>> tokens;
    std::vector<std::vector<SampledToken>> sampled;
    for (const StepPlan::Row& row : plan.rows) {
      const auto end = static_cast<size_t>(row.start_position) + row.tokens.size();
      const std::span<const TokenId> all = scheduler.Tokens(row.sequence, row.branch);
      ASSERT_GE(all.size(), end);
      tokens.emplace_back(all.begin(), all.begin() + static_cast<ptrdiff_t>(end));
      std::vector<SampledToken>& draws = sampled.emplace_back();
      for (size_t draw = 0; draw < static_cast<size_t>(row.num_samples); ++draw) {
        draws.push_back({.token = NextToken(tokens.back(), draw)});
      }
    }
    for (int32_t layer = 0; layer < kLayers; ++layer) {
      for (size_t i = 0; i < plan.rows.size(); ++i) {
        ForwardRow(worker, layer, plan.rows[i], tokens[i]);
      }
      Act(worker, [&](RoleCore& core) { core.OnLayer(layer, plan, now_); });
      const uint64_t what = Below(6);  // something arrives in the middle of the step
      if (what == 0) RandomCommand();
      if (what == 1 || what == 2) LinkEvent();
    }
    StepResult committed{.events = scheduler.Commit(sampled)};
    Act(worker, [&](RoleCore& core) { core.OnStep(std::move(committed), now_); });
  }

  void ForwardRow(Worker& worker, int32_t layer, const StepPlan::Row& row,
                  std::span<const TokenId> tokens) {
    for (size_t i = 0; i < tokens.size(); ++i) {
      const BlockId block = row.block_table[i / kBlockSize];
      uint64_t& slot = worker.memory.At(layer, block, static_cast<int32_t>(i % kBlockSize));
      const uint64_t right = KvOf(layer, tokens.first(i + 1));
      if (static_cast<int32_t>(i) >= row.start_position) {
        slot = right;
      } else {
        ASSERT_EQ(slot, right) << "sequence " << row.sequence << " attends to foreign KV at " << i;
      }
    }
  }

  void Check() {
    for (Worker* worker : {&prefill_, &decode_}) {
      worker->core->CheckInvariants();
      worker->scheduler->CheckInvariants();
    }
  }

  // No new work: what is open ends by itself or by its deadline; then nothing may be held.
  void Settle() {
    for (int i = 0; i < 4000 && !(prefill_core_.view().idle() && decode_core_.view().idle()); ++i) {
      if (i == 300) now_ += absl::Hours(1);
      Act(prefill_, [&](RoleCore& core) { core.OnTime(now_); });
      Act(decode_, [&](RoleCore& core) { core.OnTime(now_); });
      Step(prefill_);
      Step(decode_);
      LinkEvent();
      Check();
    }
    for (Worker* worker : {&prefill_, &decode_}) {
      EXPECT_TRUE(worker->core->view().idle());
      const BlockCensus census = worker->scheduler->Census();
      EXPECT_EQ(census.free + census.cached, kBlocks);
    }
    for (const auto& [key, request] : requests_) {
      if (!sessions_.contains(request.session)) continue;
      EXPECT_TRUE(request.decode.ended) << key << " has no end";
    }
  }

  std::mt19937_64 random_;
  absl::Time now_ = absl::UnixEpoch();
  Worker prefill_, decode_;
  Worker* acting_ = nullptr;
  SimLink link_{prefill_.memory, decode_.memory};
  SimLink::Sender sender_{link_};
  SimLink::Receiver receiver_{link_};
  PrefillCore prefill_core_{{.num_layers = kLayers, .block_size = kBlockSize, .credits = 5},
                            *prefill_.scheduler,
                            sender_,
                            *this};
  DecodeCore decode_core_{{.block_size = kBlockSize,
                           .vocab_size = kVocab,
                           .max_batch_sequences = 8,
                           .colocated = true,
                           .credits = 5},
                          *decode_.scheduler,
                          receiver_,
                          *this};
  std::set<SessionId> sessions_;
  uint64_t next_session_ = 1;
  uint64_t next_request_ = 1;
  std::map<RequestKey, Request> requests_;
  std::vector<ToPrefill> to_prefill_;
  int finished_ = 0, failed_ = 0, sealed_ = 0;
};

TEST(HandoffSchedules, RandomSchedulesKeepEveryInvariantAndEndWithNothingHeld) {
  int finished = 0, failed = 0, sealed = 0;
  for (uint64_t seed = 1; seed <= 300; ++seed) {
    SCOPED_TRACE(testing::Message() << "seed " << seed);
    World world(seed);
    world.Run(1500);
    if (testing::Test::HasFailure()) return;
    finished += world.finished();
    failed += world.failed();
    sealed += world.sealed();
  }
  // The schedules reach all ends, and handoffs succeed in numbers.
  EXPECT_GT(finished, 1000);
  EXPECT_GT(failed, 1000);
  EXPECT_GT(sealed, 1000);
  std::printf("finished %d, failed %d, sealed %d\n", finished, failed, sealed);
}

}  // namespace
}  // namespace baton
