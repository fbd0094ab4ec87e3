// Carrying out what the router core decided.
#include <algorithm>
#include <iterator>
#include <utility>

#include "absl/strings/str_format.h"
#include "proto/baton/v1/worker.pb.h"
#include "router/link/router_loop.h"

namespace baton::router {
namespace {

// One word for a request of several samples: the least that any of them was given.
FinishReason ReasonOf(const std::vector<FinishReason>& samples) {
  const auto any = [&](FinishReason reason) {
    return std::find(samples.begin(), samples.end(), reason) != samples.end();
  };
  return any(FinishReason::kLength) ? FinishReason::kLength : FinishReason::kStop;
}

}  // namespace

void RouterLoop::Feed(absl::Time now, Event event) {
  CarryOut(now, core_.Handle(now, std::move(event)));
}

// An action may cause the next event (a stop string ends a sample). What that causes comes behind
// what is left of the present actions: the core decided it later.
void RouterLoop::CarryOut(absl::Time now, std::vector<Action> actions) {
  if (carrying_out_) {
    std::move(actions.begin(), actions.end(), std::back_inserter(due_));
    return;
  }
  carrying_out_ = true;
  while (!actions.empty()) {
    for (Action& action : actions) {
      std::visit([&](auto& it) { Do(now, std::move(it)); }, action);
    }
    actions = std::exchange(due_, {});
  }
  carrying_out_ = false;
}

template <typename A>
void RouterLoop::SendTo(WorkerIndex worker, const A& action) {
  auto message = std::make_unique<v1::RouterMessage>();
  ToProto(action, message.get());
  links_[static_cast<size_t>(worker.value())]->Send(std::move(message));
}

void RouterLoop::Do(absl::Time, const SendReserve& action) {
  scheduling_.OnPlacement(Path::kHandoff);
  SendTo(action.worker, action);
}
void RouterLoop::Do(absl::Time, const SendPrefill& action) { SendTo(action.worker, action); }
void RouterLoop::Do(absl::Time, const SendGenerate& action) {
  scheduling_.OnPlacement(action.path);
  SendTo(action.worker, action);
}
void RouterLoop::Do(absl::Time, const SendAbort& action) { SendTo(action.worker, action); }
void RouterLoop::Do(absl::Time, const SendKvResync& action) {
  scheduling_.OnKvResync();
  SendTo(action.worker, action);
}

void RouterLoop::Do(absl::Time, const CloseSession& action) {
  WorkerLink& link = *links_[static_cast<size_t>(action.worker.value())];
  log_.Warning("worker session closed", {{"address", link.address()}, {"reason", action.reason}});
  link.Close();
}

void RouterLoop::Do(absl::Time, const NoteStanding& action) {
  if (action.standing == Standing::kOut) scheduling_.OnWorkerEjected();
  log_.Warning("worker standing", {{"worker", core_.cluster().worker(action.worker).info.id},
                                   {"standing", std::string(StandingName(action.standing))}});
}

void RouterLoop::Do(absl::Time, const NotePairStanding& action) {
  if (action.standing == Standing::kOut) scheduling_.OnPairEjected();
  log_.Warning("pair standing", {{"prefill", core_.cluster().worker(action.pair.prefill).info.id},
                                 {"decode", core_.cluster().worker(action.pair.decode).info.id},
                                 {"standing", std::string(StandingName(action.standing))}});
}

void RouterLoop::Do(absl::Time, const EmitPromptLogprobs& action) {
  if (const auto found = open_.find(action.request); found != open_.end()) {
    found->second.relay->OnPromptLogprobs(action.tokens);
    Owe(found->second.relay->group());
  }
}

void RouterLoop::Do(absl::Time now, const EmitToken& action) {
  const auto found = open_.find(action.request);
  if (found == open_.end()) return;
  CountToken(now, action, found->second);
  Owe(found->second.relay->group());
  const absl::StatusOr<bool> stopped = found->second.relay->OnToken(action.token);
  if (!stopped.ok()) {
    const absl::string_view message = stopped.status().message();
    Feed(now, StreamBrokenEvent{action.request, std::string(message.data(), message.size())});
  } else if (*stopped) {
    Feed(now, SampleStoppedEvent{action.request, action.token.sample});
  }
}

void RouterLoop::CountToken(absl::Time now, const EmitToken& action, OpenRequest& open) {
  metrics_.OnToken();
  if (!open.first_token_out) {
    open.first_token_out = true;
    metrics_.OnPromptTokens(open.prompt_tokens);
    metrics_.OnFirstToken(absl::ToDoubleSeconds(now - open.arrival));
  }
  const auto sample = static_cast<size_t>(action.token.sample);
  if (sample >= open.last_token.size()) return;
  if (open.last_token[sample] != absl::InfinitePast()) {
    metrics_.OnTokenGap(absl::ToDoubleSeconds(now - open.last_token[sample]));
  }
  open.last_token[sample] = now;
}

void RouterLoop::Do(absl::Time, const EmitSampleFinish& action) {
  if (const auto found = open_.find(action.request); found != open_.end()) {
    found->second.relay->OnSampleFinish(action.finish);
    Owe(found->second.relay->group());
  }
}

void RouterLoop::Do(absl::Time, CompleteRequest action) {
  const auto found = open_.find(action.request);
  if (found == open_.end()) return;
  const OpenRequest open = std::move(found->second);
  open_.erase(found);
  action.summary.completion_tokens = open.relay->total_tokens();
  metrics_.OnEnd(action.outcome);
  scheduling_.OnVerdict(Verdict::kAdmit);
  scheduling_.OnComplete(action.prediction, action.summary.timings);
  traffic_.OnEnd(action.outcome);
  traffic_.OnSuccess(action.summary.timings);
  metrics_.OnSuccess(action.summary, ReasonOf(open.relay->reasons()), action.outcome);
  log_.Debug("request done",
             {{"request_id", open.external_id},
              {"id", action.request},
              {"prompt_tokens", action.summary.prompt_tokens},
              {"completion_tokens", action.summary.completion_tokens},
              {"ttft_ms", absl::StrFormat("%.1f", action.summary.timings.ttft_ms)},
              {"total_ms", absl::StrFormat("%.1f", action.summary.timings.total_ms)},
              {"attempts", action.summary.timings.attempts},
              {"slo", SloResultName(action.outcome.result)}});
  open.relay->Complete(std::move(action.summary));
  Owe(open.relay->group());
  Forget(action.request, open.external_id);
}

void RouterLoop::Do(absl::Time, FailRequest action) {
  const auto found = open_.find(action.request);
  if (found == open_.end()) return;
  const OpenRequest open = std::move(found->second);
  open_.erase(found);
  metrics_.OnEnd(action.outcome);
  scheduling_.OnVerdict(action.verdict);
  traffic_.OnEnd(action.outcome);
  if (action.error.code == RequestErrorCode::kAborted) {
    metrics_.OnAborted();
    log_.Debug("request aborted", {{"request_id", open.external_id}, {"id", action.request}});
    if (stopping_) {
      action.error = {.code = RequestErrorCode::kDraining, .message = "the router is stopping"};
    }
  } else {
    log_.Warning("request failed", {{"request_id", open.external_id},
                                    {"id", action.request},
                                    {"error", action.error.message}});
  }
  open.relay->Fail(std::move(action.error));
  Owe(open.relay->group());
  Forget(action.request, open.external_id);
}

}  // namespace baton::router
