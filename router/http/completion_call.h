// One call of /v1/completions or /v1/chat/completions: submits its prompts, renders what comes
// back. Knows nothing of sockets.
#pragma once

#include <functional>
#include <memory>
#include <optional>
#include <string>
#include <vector>

#include "router/completion_service.h"
#include "router/http/call_queue.h"
#include "router/http/http_message.h"
#include "router/openai/request.h"
#include "router/openai/response.h"

namespace baton {

// What Poll found to send.
struct CallProgress {
  std::string events;                  // "data: …\n\n" lines of a stream; may be empty
  std::optional<HttpResponse> answer;  // a whole answer: not streamed, or refused before any event
  bool done = false;                   // nothing follows
};

// Belongs to one strand. Destroying it cancels what still runs.
class CompletionCall {
 public:
  // `wake` may only take note: it is called from the router's loop when Poll has something to do.
  // `group` is flushed after it.
  CompletionCall(ApiRequest request, CompletionService& service, const Tokenizer& tokenizer,
                 std::function<void()> wake, std::shared_ptr<SinkGroup> group);
  ~CompletionCall();
  CompletionCall(const CompletionCall&) = delete;
  CompletionCall& operator=(const CompletionCall&) = delete;

  void Submit();
  CallProgress Poll();
  // The client is gone. Idempotent.
  void Cancel();

 private:
  void Handle(CallEvent event, CallProgress& progress);
  void OnDelta(size_t prompt, SampleDelta delta, CallProgress& progress);
  void OnFinish(size_t prompt, const RequestSummary& summary, CallProgress& progress);
  void OnError(const RequestError& error, CallProgress& progress);

  CompletionService& service_;
  std::vector<RoutedRequest> prompts_;  // until Submit
  const std::shared_ptr<CallQueue> queue_;
  const std::shared_ptr<SinkGroup> group_;
  std::vector<std::optional<RequestId>> running_;  // [prompts]; nullopt: ended
  size_t open_prompts_ = 0;
  bool streamed_any_ = false;
  bool done_ = false;
  // Exactly one of the two.
  std::unique_ptr<StreamRenderer> stream_;
  std::unique_ptr<BodyRenderer> body_;
};

}  // namespace baton
