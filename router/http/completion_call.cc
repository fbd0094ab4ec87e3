#include "router/http/completion_call.h"

#include <utility>

#include "router/openai/api_error.h"

namespace baton {
namespace {

// A call whose connection does not run for this many events is cut: n = 128 at 100 tokens/s fills
// it in a second.
constexpr size_t kMaxQueuedEvents = 16384;

template <typename... Fs>
struct Overloaded : Fs... {
  using Fs::operator()...;
};
template <typename... Fs>
Overloaded(Fs...) -> Overloaded<Fs...>;

}  // namespace

CompletionCall::CompletionCall(ApiRequest request, CompletionService& service,
                               const Tokenizer& tokenizer, std::function<void()> wake,
                               std::shared_ptr<SinkGroup> group)
    : service_(service),
      prompts_(std::move(request.prompts)),
      queue_(std::make_shared<CallQueue>(kMaxQueuedEvents, std::move(wake))),
      group_(std::move(group)),
      open_prompts_(prompts_.size()) {
  if (request.shape.stream) {
    stream_ = std::make_unique<StreamRenderer>(std::move(request.shape), tokenizer);
  } else {
    body_ = std::make_unique<BodyRenderer>(std::move(request.shape), tokenizer);
  }
}

CompletionCall::~CompletionCall() { Cancel(); }

void CompletionCall::Submit() {
  for (size_t i = 0; i < prompts_.size(); ++i) {
    running_.emplace_back(
        service_.Submit(std::move(prompts_[i]), MakeQueueSink(queue_, i, group_)));
  }
  prompts_ = {};
}

CallProgress CompletionCall::Poll() {
  CallProgress progress;
  for (CallEvent& event : queue_->Take()) {
    if (done_) break;
    Handle(std::move(event), progress);
  }
  if (!done_ && queue_->overflowed()) {
    OnError({RequestErrorCode::kInternal, "the server fell behind with this answer"}, progress);
  }
  progress.done = done_;
  streamed_any_ |= !progress.events.empty();
  return progress;
}

void CompletionCall::Handle(CallEvent event, CallProgress& progress) {
  std::visit(
      Overloaded{[&](std::vector<OutputToken>& tokens) {
                   if (stream_) {
                     stream_->OnPromptLogprobs(event.prompt, std::move(tokens));
                   } else {
                     body_->OnPromptLogprobs(event.prompt, std::move(tokens));
                   }
                 },
                 [&](SampleDelta& delta) { OnDelta(event.prompt, std::move(delta), progress); },
                 [&](RequestSummary& summary) { OnFinish(event.prompt, summary, progress); },
                 [&](RequestError& error) {
                   running_[event.prompt].reset();
                   OnError(error, progress);
                 }},
      event.what);
}

void CompletionCall::OnDelta(size_t prompt, SampleDelta delta, CallProgress& progress) {
  if (body_) {
    body_->OnDelta(prompt, std::move(delta));
    return;
  }
  const size_t before = progress.events.size();
  progress.events += "data: ";
  if (stream_->AppendDelta(prompt, delta, progress.events)) {
    progress.events += "\n\n";
  } else {
    progress.events.resize(before);
  }
}

void CompletionCall::OnFinish(size_t prompt, const RequestSummary& summary,
                              CallProgress& progress) {
  running_[prompt].reset();
  if (stream_) {
    stream_->OnFinish(summary);
  } else {
    body_->OnFinish(summary);
  }
  if (--open_prompts_ > 0) return;
  done_ = true;
  if (body_) {
    progress.answer = HttpResponse{.body = body_->Render()};
    return;
  }
  std::string last;
  if (stream_->AppendLast(last)) progress.events += "data: " + last + "\n\n";
  progress.events += "data: [DONE]\n\n";
}

void CompletionCall::OnError(const RequestError& error, CallProgress& progress) {
  Cancel();  // the other prompts of the call
  done_ = true;
  const ApiError answer = FromRequestError(error);
  if (streamed_any_ || !progress.events.empty()) {
    progress.events += "data: " + RenderError(answer) + "\n\ndata: [DONE]\n\n";
  } else {
    progress.answer = ErrorResponse(answer);
  }
}

void CompletionCall::Cancel() {
  queue_->Detach();
  for (std::optional<RequestId>& id : running_) {
    if (id.has_value()) service_.Cancel(*id);
    id.reset();
  }
}

}  // namespace baton
