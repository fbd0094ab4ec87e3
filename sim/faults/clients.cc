#include "sim/faults/clients.h"

#include <algorithm>

#include "absl/strings/str_cat.h"
#include "common/strings.h"
#include "sim/faults/history.h"
#include "sim/toy_model.h"

namespace baton::sim {
namespace {

// A deadline is noticed within it (docs/failure_model.md).
constexpr absl::Duration kDeadlineGrace = absl::Seconds(1);

[[noreturn]] void Broken(RequestId request, const std::string& what) {
  throw Violation(absl::StrCat("H6: request ", request.value(), ": ", what));
}

}  // namespace

Clients::Clients(const Schedule& schedule) : faultless_(schedule.faults.empty()) {
  for (const PlannedRequest& plan : schedule.requests) {
    Client& client = clients_[plan.id];
    client.plan = &plan;
    for (std::vector<TokenId>& answer : ToyAnswer(plan.spec, kToyMaxModelLen)) {
      client.samples.push_back({.expected = std::move(answer)});
    }
  }
}

Clients::Client& Clients::Open(RequestId request, const char* what) {
  Client& client = clients_.at(request);
  if (client.submitted == absl::InfiniteFuture()) {
    Broken(request, absl::StrCat(what, " before it was submitted"));
  }
  if (client.end != ClientEnd::kNone) Broken(request, absl::StrCat(what, " after its end"));
  return client;
}

void Clients::OnSubmitted(RequestId request, absl::Time at) { clients_.at(request).submitted = at; }

void Clients::OnCancelled(RequestId request) { clients_.at(request).cancelled = true; }

void Clients::OnStopped(RequestId request, int32_t sample) {
  clients_.at(request).samples[static_cast<size_t>(sample)].stopped = true;
}

void Clients::OnToken(RequestId request, const TokenOutput& token) {
  Client& client = Open(request, "a token");
  if (token.sample < 0 || static_cast<size_t>(token.sample) >= client.samples.size()) {
    Broken(request, absl::StrCat("a token of sample ", token.sample));
  }
  Sample& sample = client.samples[static_cast<size_t>(token.sample)];
  const auto index = static_cast<size_t>(token.index);
  if (index != sample.tokens) {
    Broken(request, absl::StrCat("token ", token.index, " where ", sample.tokens, " was due"));
  }
  if (sample.finished) Broken(request, "a token after its sample's end");
  if (index >= sample.expected.size()) Broken(request, "a token past the answer's end");
  if (token.token != sample.expected[index]) {
    Broken(request, absl::StrCat("token ", token.index, " is ", token.token, ", alone it is ",
                                 sample.expected[index]));
  }
  ++sample.tokens;
}

void Clients::OnSampleFinish(RequestId request, const SampleFinish& finish) {
  Client& client = Open(request, "a sample's end");
  Sample& sample = client.samples.at(static_cast<size_t>(finish.sample));
  if (sample.finished) Broken(request, "a sample ended twice");
  sample.finished = true;
  if (sample.tokens != sample.expected.size()) {
    Broken(request, absl::StrCat("a sample ended after ", sample.tokens, " of ",
                                 sample.expected.size(), " tokens"));
  }
  const bool ended_by_eos =
      !client.plan->spec.stopping.ignore_eos && sample.expected.back() == kToyEos;
  const FinishReason reason = ended_by_eos ? FinishReason::kStop : FinishReason::kLength;
  if (finish.reason != reason) {
    Broken(request, absl::StrCat("a sample ended by ", View(FinishReasonName(finish.reason))));
  }
}

void Clients::OnComplete(const router::CompleteRequest& done) {
  Client& client = Open(done.request, "success");
  client.end = ClientEnd::kComplete;
  for (const Sample& sample : client.samples) {
    if (!sample.finished && !sample.stopped) {
      Broken(done.request, "success before the end of each sample");
    }
  }
}

void Clients::OnFail(const router::FailRequest& failed, absl::Time now) {
  Client& client = Open(failed.request, "an error");
  client.end = ClientEnd::kFailed;
  using Code = RequestErrorCode;
  const Code code = failed.error.code;
  const bool own_doing = code == Code::kInternal || code == Code::kInvalid ||
                         code == Code::kContextLength ||
                         (code == Code::kAborted && !client.cancelled);
  const bool needs_fault = code == Code::kPrefillLost || code == Code::kDecodeLost ||
                           code == Code::kNoWorkers || code == Code::kQuarantined ||
                           code == Code::kDraining;
  const bool too_early = code == Code::kDeadline && now < client.submitted + client.plan->timeout;
  if (own_doing || (faultless_ && (needs_fault || too_early))) {
    Broken(failed.request, absl::StrCat("failed without cause: ", failed.error.message));
  }
}

void Clients::OnRefused(RequestId request) {
  clients_.at(request).end = ClientEnd::kConnectionLost;
}

void Clients::OnRouterDied() {
  for (auto& [id, client] : clients_) {
    if (client.submitted != absl::InfiniteFuture() && client.end == ClientEnd::kNone) {
      client.end = ClientEnd::kConnectionLost;
    }
  }
}

std::string Clients::Overdue(absl::Time now) const {
  for (const auto& [id, client] : clients_) {
    if (client.end != ClientEnd::kNone || client.submitted == absl::InfiniteFuture()) continue;
    if (now > client.submitted + client.plan->timeout + kDeadlineGrace) {
      return absl::StrCat("request ", id.value(), " is open past its deadline");
    }
  }
  return "";
}

bool Clients::AllEnded() const {
  return std::all_of(clients_.begin(), clients_.end(),
                     [](const auto& each) { return each.second.end != ClientEnd::kNone; });
}

int32_t Clients::Count(ClientEnd end) const {
  return static_cast<int32_t>(std::count_if(
      clients_.begin(), clients_.end(), [&](const auto& each) { return each.second.end == end; }));
}

}  // namespace baton::sim
