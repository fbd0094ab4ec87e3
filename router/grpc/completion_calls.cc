#include "router/grpc/completion_calls.h"

#include <grpcpp/alarm.h>

#include <deque>
#include <memory>
#include <optional>
#include <utility>

#include "absl/synchronization/mutex.h"
#include "router/grpc/caller.h"
#include "router/grpc/status_map.h"

namespace baton {
namespace {

using grpc::Status;

void FillTokens(const SampleDelta& delta, const GrpcCall& call, auto* proto) {
  for (const OutputToken& token : delta.tokens) {
    if (call.return_token_ids) proto->add_token_ids(token.token);
    if (call.logprobs) *proto->add_logprobs() = ToProto(token);
  }
  if (!delta.finished) return;
  proto->set_finish_reason(std::string(FinishReasonName(delta.reason)));
  proto->set_stop_reason(StopReasonOf(delta));
}

// Sets `call`, or says why it is refused.
Status Check(const grpc::CallbackServerContext& context, const v1::CompletionRequest& request,
             const GrpcContext& grpc, GrpcCall& call) {
  CallerCheck caller = CheckCaller(context, grpc, Access::kUse);
  if (caller.refused) return *std::move(caller.refused);
  const CallHeaders headers{.timeout = TimeoutOf(context.deadline(), grpc.options.request_timeout),
                            .slo_class = Metadata(context, "x-slo-class"),
                            .authorization = Metadata(context, "authorization"),
                            .tenant = std::move(caller.tenant)};
  return ConvertRequest(request, grpc, headers, call);
}

// Hands events on to a call. Keeps it alive for as long as the router may speak.
template <typename Call>
class ForwardingSink final : public ResponseSink {
 public:
  explicit ForwardingSink(std::shared_ptr<Call> call) : call_(std::move(call)) {}
  void OnPromptLogprobs(std::vector<OutputToken>) override {}  // never asked for over gRPC
  void OnDelta(SampleDelta delta) override { call_->OnDelta(delta); }
  void OnFinish(RequestSummary summary) override { call_->OnFinish(summary); }
  void OnError(RequestError error) override { call_->End(ToGrpcStatus(error)); }

 private:
  const std::shared_ptr<Call> call_;
};

class UnaryCall final : public grpc::ServerUnaryReactor,
                        public std::enable_shared_from_this<UnaryCall> {
 public:
  UnaryCall(v1::CompletionResponse* response, const GrpcContext& context)
      : response_(response), service_(context.parts.service) {}

  void Begin(GrpcCall call) {
    self_ = shared_from_this();
    call_ = std::move(call);
    response_->set_request_id(call_.request.external_id);
    response_->set_model(call_.model);
    for (int32_t i = 0; i < call_.request.spec.num_samples; ++i) {
      response_->add_choices()->set_index(i);
    }
    RoutedRequest request = std::move(call_.request);
    id_ = service_.Submit(std::move(request),
                          std::make_shared<ForwardingSink<UnaryCall>>(shared_from_this()));
  }
  void Refuse(Status status) {
    self_ = shared_from_this();
    End(std::move(status));
  }

  // Router's thread. `response_` is ours until Finish.
  void OnDelta(const SampleDelta& delta) {
    absl::MutexLock lock(&mutex_);
    if (ended_) return;
    v1::Choice* choice = response_->mutable_choices(delta.sample);
    choice->mutable_text()->append(delta.text);
    FillTokens(delta, call_, choice);
  }
  void OnFinish(const RequestSummary& summary) {
    {
      absl::MutexLock lock(&mutex_);
      if (ended_) return;
      *response_->mutable_usage() = UsageOf(summary);
      if (call_.timings) *response_->mutable_timings() = ToProto(summary.timings);
    }
    End(Status::OK);
  }
  void End(Status status) {
    {
      absl::MutexLock lock(&mutex_);
      if (std::exchange(ended_, true)) return;
    }
    Finish(std::move(status));
  }

  // gRPC's threads; after Begin has returned.
  void OnCancel() override {
    service_.Cancel(id_);
    End(Status::CANCELLED);
  }
  void OnDone() override { self_.reset(); }

 private:
  v1::CompletionResponse* const response_;
  CompletionService& service_;
  GrpcCall call_;
  RequestId id_;
  std::shared_ptr<UnaryCall> self_;  // gRPC's share
  absl::Mutex mutex_;
  bool ended_ ABSL_GUARDED_BY(mutex_) = false;
};

class StreamCall final : public grpc::ServerWriteReactor<v1::CompletionEvent>,
                         public std::enable_shared_from_this<StreamCall> {
 public:
  StreamCall(grpc::CallbackServerContext* call_context, const GrpcContext& context)
      : call_context_(call_context),
        service_(context.parts.service),
        max_output_bytes_(context.options.max_output_bytes),
        write_timeout_(context.options.write_timeout) {}

  void Begin(GrpcCall call) {
    self_ = shared_from_this();
    call_ = std::move(call);
    v1::CompletionEvent event;
    v1::PromptInfo* prompt = event.mutable_prompt();
    const GenerationSpec& spec = call_.request.spec;
    prompt->set_request_id(call_.request.external_id);
    prompt->set_model(call_.model);
    prompt->set_prompt_tokens(spec.prompt_length);
    if (call_.return_token_ids) {
      prompt->mutable_token_ids()->Add(spec.tokens.begin(), spec.tokens.end());
    }
    Queue(std::move(event));
    RoutedRequest request = std::move(call_.request);
    id_ = service_.Submit(std::move(request),
                          std::make_shared<ForwardingSink<StreamCall>>(shared_from_this()));
  }
  void Refuse(Status status) {
    self_ = shared_from_this();
    End(std::move(status));
  }

  // Router's thread.
  void OnDelta(const SampleDelta& delta) {
    v1::CompletionEvent event;
    v1::Delta* proto = event.mutable_delta();
    proto->set_index(delta.sample);
    proto->set_text(delta.text);
    FillTokens(delta, call_, proto);
    Queue(std::move(event));
  }
  void OnFinish(const RequestSummary& summary) {
    v1::CompletionEvent event;
    *event.mutable_finish()->mutable_usage() = UsageOf(summary);
    if (call_.timings) *event.mutable_finish()->mutable_timings() = ToProto(summary.timings);
    Queue(std::move(event));
    End(Status::OK);
  }
  // What is queued still goes out first, if the client takes it.
  void End(Status status) {
    {
      absl::MutexLock lock(&mutex_);
      if (final_.has_value()) return;
      // Before there is a status, so before OnDone.
      if (writing_ || !queue_.empty()) {
        patience_.Set(absl::ToChronoTime(absl::Now() + write_timeout_),
                      // gRPC keeps the function until the alarm goes, and the alarm is ours.
                      [weak = weak_from_this()](bool over) {
                        const std::shared_ptr<StreamCall> self = weak.lock();
                        if (over && self != nullptr) self->Cut();
                      });
      }
      final_ = std::move(status);
    }
    Advance();
  }

  // gRPC's threads; after Begin has returned.
  void OnWriteDone(bool ok) override {
    {
      absl::MutexLock lock(&mutex_);
      writing_ = false;
      if (!ok) queue_.clear();  // the client is gone; OnCancel says the rest
    }
    Advance();
  }
  void OnCancel() override {
    service_.Cancel(id_);
    {
      absl::MutexLock lock(&mutex_);
      queue_.clear();
      if (!final_.has_value()) final_ = Status::CANCELLED;
    }
    Advance();
  }
  void OnDone() override {
    patience_.Cancel();
    self_.reset();
  }

 private:
  // The client takes nothing: only cancelling ends the write in flight. OnCancel follows.
  void Cut() {
    {
      absl::MutexLock lock(&mutex_);
      if (finished_) return;
      cutting_ = true;  // nothing finishes, and takes the context away, until this is done
    }
    call_context_->TryCancel();
    {
      absl::MutexLock lock(&mutex_);
      cutting_ = false;
    }
    Advance();
  }

  void Queue(v1::CompletionEvent event) {
    bool too_slow = false;
    {
      absl::MutexLock lock(&mutex_);
      if (final_.has_value()) return;
      queued_bytes_ += event.ByteSizeLong();
      too_slow = queued_bytes_ > max_output_bytes_;
      queue_.push_back(std::move(event));
    }
    if (too_slow) {
      Cut();
    } else {
      Advance();
    }
  }

  // Starts the next write, or finishes. One thread at a time gets past the lock with work to do.
  void Advance() {
    std::optional<Status> finish;
    {
      absl::MutexLock lock(&mutex_);
      if (writing_ || finished_ || cutting_) return;
      if (!queue_.empty()) {
        current_ = std::move(queue_.front());
        queue_.pop_front();
        queued_bytes_ -= std::min(queued_bytes_, current_.ByteSizeLong());
        writing_ = true;
      } else if (final_.has_value()) {
        finished_ = true;
        finish = final_;
      } else {
        return;
      }
    }
    if (finish.has_value()) {
      Finish(*std::move(finish));
    } else {
      StartWrite(&current_);
    }
  }

  grpc::CallbackServerContext* const call_context_;  // valid until OnDone
  CompletionService& service_;
  const size_t max_output_bytes_;
  const absl::Duration write_timeout_;
  GrpcCall call_;
  RequestId id_;
  std::shared_ptr<StreamCall> self_;  // gRPC's share
  grpc::Alarm patience_;              // from the end of the request
  absl::Mutex mutex_;
  std::deque<v1::CompletionEvent> queue_ ABSL_GUARDED_BY(mutex_);
  size_t queued_bytes_ ABSL_GUARDED_BY(mutex_) = 0;
  bool writing_ ABSL_GUARDED_BY(mutex_) = false;
  bool finished_ ABSL_GUARDED_BY(mutex_) = false;
  bool cutting_ ABSL_GUARDED_BY(mutex_) = false;
  std::optional<Status> final_ ABSL_GUARDED_BY(mutex_);
  v1::CompletionEvent current_;  // being written; touched only while writing_ is false
};

}  // namespace

grpc::ServerUnaryReactor* StartComplete(grpc::CallbackServerContext* call_context,
                                        const v1::CompletionRequest& request,
                                        v1::CompletionResponse* response,
                                        const GrpcContext& context) {
  auto reactor = std::make_shared<UnaryCall>(response, context);
  UnaryCall* const raw = reactor.get();
  GrpcCall call;
  Status status = Check(*call_context, request, context, call);
  if (status.ok()) {
    reactor->Begin(std::move(call));
  } else {
    reactor->Refuse(std::move(status));
  }
  return raw;
}

grpc::ServerWriteReactor<v1::CompletionEvent>* StartCompleteStream(
    grpc::CallbackServerContext* call_context, const v1::CompletionRequest& request,
    const GrpcContext& context) {
  auto reactor = std::make_shared<StreamCall>(call_context, context);
  StreamCall* const raw = reactor.get();
  GrpcCall call;
  Status status = Check(*call_context, request, context, call);
  if (status.ok()) {
    reactor->Begin(std::move(call));
  } else {
    reactor->Refuse(std::move(status));
  }
  return raw;
}

}  // namespace baton
