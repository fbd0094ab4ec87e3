// One request between the router core and its client: tokens in, ResponseSink calls out.
#pragma once

#include <cstdint>
#include <memory>
#include <vector>

#include "absl/status/statusor.h"
#include "common/request.h"
#include "router/completion_service.h"
#include "router/relay/sample_relay.h"

namespace baton::router {

// Not thread-safe: the router's loop owns it. After Complete or Fail nothing may be called.
class RequestRelay {
 public:
  // `sink` is shared with the front's call object until the terminal call.
  RequestRelay(RelayRequest request, int32_t first_sample, int32_t num_samples,
               std::shared_ptr<ResponseSink> sink);
  RequestRelay(const RequestRelay&) = delete;  // samples_ refer to request_
  RequestRelay& operator=(const RequestRelay&) = delete;

  // Logprobs of the prompt; before the first token.
  void OnPromptLogprobs(const std::vector<TokenOutput>& tokens);
  // True: a stop string ended this sample; the worker need not go on. Tokens of a sample that has
  // ended are dropped. INTERNAL: unknown sample, a gap or a repeat.
  absl::StatusOr<bool> OnToken(const TokenOutput& token);
  void OnSampleFinish(const SampleFinish& finish);

  // `summary` gets the number of tokens that the client was shown.
  void Complete(RequestSummary summary);
  void Fail(RequestError error);

  int32_t total_tokens() const;
  // To be flushed after a call above, if there is one.
  const std::shared_ptr<SinkGroup>& group() const { return group_; }
  // By how each sample ended; kAborted for those that have not.
  const std::vector<FinishReason>& reasons() const { return reasons_; }

 private:
  SampleRelay* Find(int32_t sample);
  void Send(SampleDelta delta);

  const RelayRequest request_;
  const int32_t first_sample_;
  std::vector<SampleRelay> samples_;   // [num_samples]
  std::vector<FinishReason> reasons_;  // [num_samples]
  std::shared_ptr<ResponseSink> sink_;
  const std::shared_ptr<SinkGroup> group_;  // the sink's
};

}  // namespace baton::router
