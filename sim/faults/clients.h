// The clients of a simulated cluster: what each has been sent, against what the model answers to
// its request alone. Throws Violation for a token that is wrong, repeated or skipped, for an end
// that comes twice, and for a success that is not one (H6).
#pragma once

#include <map>
#include <string>
#include <vector>

#include "router/core/events.h"
#include "sim/faults/schedule.h"

namespace baton::sim {

enum class ClientEnd {
  kNone,
  kComplete,
  kFailed,
  kConnectionLost,  // its router died, or nobody answered
};

class Clients {
 public:
  explicit Clients(const Schedule& schedule);

  void OnToken(RequestId request, const TokenOutput& token);
  void OnSampleFinish(RequestId request, const SampleFinish& finish);
  void OnComplete(const router::CompleteRequest& done);
  void OnFail(const router::FailRequest& failed, absl::Time now);
  void OnStopped(RequestId request, int32_t sample);  // its stop string was seen
  void OnSubmitted(RequestId request, absl::Time at);
  void OnCancelled(RequestId request);
  void OnRefused(RequestId request);  // nobody answers
  void OnRouterDied();

  // Open past what it was promised, by the router's clock; empty: none.
  std::string Overdue(absl::Time now) const;
  bool AllEnded() const;
  int32_t completed() const { return Count(ClientEnd::kComplete); }
  int32_t failed() const { return Count(ClientEnd::kFailed); }

 private:
  struct Sample {
    std::vector<TokenId> expected;
    size_t tokens = 0;  // sent
    bool finished = false;
    bool stopped = false;
  };
  struct Client {
    const PlannedRequest* plan = nullptr;
    std::vector<Sample> samples;
    absl::Time submitted = absl::InfiniteFuture();
    bool cancelled = false;
    ClientEnd end = ClientEnd::kNone;
  };
  Client& Open(RequestId request, const char* what);
  int32_t Count(ClientEnd end) const;

  const bool faultless_;
  std::map<RequestId, Client> clients_;
};

}  // namespace baton::sim
