// For tests that tell the router core a story event by event.
#pragma once

#include <gtest/gtest.h>

#include <optional>
#include <string>
#include <utility>
#include <vector>

#include "router/core/router_core.h"

namespace baton::router {

// A router core that is fed events and asked what it did.
class CoreTest : public ::testing::Test {
 protected:
  CoreTest() { options_.cluster.num_workers = 4; }

  RouterCore& core() {
    if (!core_.has_value()) core_.emplace(options_);
    return *core_;
  }
  void Feed(Event event) { Take(core().Handle(now_, std::move(event))); }
  void Advance(absl::Duration by) {
    now_ += by;
    Take(core().Tick(now_));
  }
  void Take(std::vector<Action> actions) {
    for (Action& action : actions) actions_.push_back(std::move(action));
  }
  // The actions of one type since the last call; the others are kept.
  template <typename A>
  std::vector<A> All() {
    std::vector<A> found;
    std::erase_if(actions_, [&](const Action& action) {
      const A* it = std::get_if<A>(&action);
      if (it != nullptr) found.push_back(*it);
      return it != nullptr;
    });
    return found;
  }
  template <typename A>
  A One() {
    std::vector<A> found = All<A>();
    EXPECT_EQ(found.size(), 1u) << typeid(A).name();
    return found.empty() ? A{} : found[0];
  }

  WorkerOrigin From(int32_t index) {
    return {WorkerIndex(index), SessionId(sessions_[static_cast<size_t>(index)])};
  }
  void Up(int32_t index, Role role, int32_t credits = 4) {
    sessions_[static_cast<size_t>(index)] = ++next_session_;
    WorkerUpEvent event{.from = From(index)};
    event.info = {.id = "w" + std::to_string(index),
                  .boot = BootId(next_session_),
                  .role = role,
                  .protocol_version = 1,
                  .model_fingerprint = 7,
                  .max_model_len = 100,
                  .block_size = 16,
                  .total_blocks = 100,
                  .max_batch_sequences = 10,
                  .prefill_credits = credits,
                  .step_model = model_,
                  .paced_prefill = true};
    Feed(event);
  }
  void Down(int32_t index) { Feed(WorkerDownEvent{From(index), "killed"}); }
  void Submit(uint64_t id, int32_t prompt = 10, absl::Duration timeout = absl::Seconds(60)) {
    auto spec = std::make_shared<GenerationSpec>();
    spec->tokens.assign(static_cast<size_t>(prompt), 5);
    spec->prompt_length = prompt;
    spec->stopping.max_tokens = 8;
    Feed(SubmitEvent{.request = RequestId(id),
                     .spec = spec,
                     .arrival = now_,
                     .timeout = timeout,
                     .slo = {.ttft_ms = 100, .tpot_ms = 10}});
  }
  // Brings the request from its Reserve to decoding, with `tokens` tokens out.
  RequestKey Decode(int32_t tokens) {
    const SendReserve reserve = One<SendReserve>();
    const RequestKey key = reserve.key;
    Feed(ReservedEvent{From(reserve.worker.value()), key, "ticket", 0});
    const SendPrefill prefill = One<SendPrefill>();
    const int32_t first =
        static_cast<int32_t>(prefill.spec->tokens.size()) - prefill.spec->prompt_length;
    Feed(TokensEvent{From(prefill.worker.value()), key, {{0, first, 100 + first}}});
    Feed(PrefillDoneEvent{From(prefill.worker.value()), key, 0, 1, 20});
    Feed(SealedEvent{From(reserve.worker.value()), key, 500, 4, 2, "shm", 0});
    for (int32_t i = first + 1; i < tokens; ++i) {
      Feed(TokensEvent{From(reserve.worker.value()), key, {{0, i, 100 + i}}});
    }
    return key;
  }
  void Finish(const WorkerOrigin& from, const RequestKey& key, int32_t tokens) {
    FinishedEvent event{.from = from, .key = key, .decode_queue_ms = 3, .decode_ms = 30};
    event.finish = {.reason = FinishReason::kLength, .output_tokens = tokens};
    Feed(event);
  }

  CoreOptions options_;
  StepModel model_;  // of workers that come up
  std::optional<RouterCore> core_;
  absl::Time now_ = absl::UnixEpoch();
  std::vector<uint64_t> sessions_ = std::vector<uint64_t>(4, 0);
  uint64_t next_session_ = 0;
  std::vector<Action> actions_;
};

}  // namespace baton::router
