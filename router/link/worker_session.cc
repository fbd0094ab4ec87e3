#include "router/link/worker_session.h"

#include <google/protobuf/arena.h>
#include <grpcpp/grpcpp.h>

#include <deque>
#include <string>
#include <utility>

#include "absl/base/thread_annotations.h"
#include "absl/strings/str_cat.h"
#include "absl/synchronization/mutex.h"
#include "common/check.h"
#include "proto/baton/v1/worker.grpc.pb.h"

namespace baton::router {
namespace {

constexpr size_t kMaxQueuedSends = 16384;
constexpr size_t kMaxUnhandledEvents = 4096;
constexpr size_t kArenaBytes = 64u << 10;  // a batch of a decode step fits

// gRPC calls the reactions On…Done on its threads, one stream's reads in order. A hold keeps the
// stream from ending while the loop may still start a write or a read: it is given back, under the
// mutex, when reading has ended, and after that nothing is started. Starting an operation does not
// run a reaction on the calling thread, so doing it under the mutex is safe.
class GrpcSession final : public WorkerSession,
                          public grpc::ClientBidiReactor<v1::RouterMessage, v1::WorkerMessage> {
 public:
  GrpcSession(const std::shared_ptr<grpc::Channel>& channel, const WorkerOrigin& origin,
              NewsFn news)
      : stub_(v1::Worker::NewStub(channel)), origin_(origin), news_(std::move(news)) {}

  void Start(std::shared_ptr<GrpcSession> self, const HelloFields& hello) {
    self_ = std::move(self);
    stub_->async()->Session(&context_, this);
    AddHold();
    StartRead(incoming_);
    auto message = std::make_unique<v1::RouterMessage>();
    ToProto(hello, message.get());
    Send(std::move(message));
    StartCall();
  }

  void Send(std::unique_ptr<v1::RouterMessage> message) override {
    absl::MutexLock lock(&mutex_);
    if (reading_ended_) return;
    if (outgoing_.size() >= kMaxQueuedSends) {
      CloseBecause(absl::ResourceExhaustedError("the worker does not read its commands"));
      return;
    }
    outgoing_.push_back(std::move(message));
    if (outgoing_.size() == 1) StartWrite(outgoing_.front().get());
  }

  void Consumed(size_t events) override {
    absl::MutexLock lock(&mutex_);
    unhandled_ -= events;
    if (read_paused_ && !reading_ended_ && unhandled_ < kMaxUnhandledEvents) {
      read_paused_ = false;
      StartRead(incoming_);
    }
  }

  void Close() override { context_.TryCancel(); }

 private:
  void CloseBecause(absl::Status status) ABSL_EXCLUSIVE_LOCKS_REQUIRED(mutex_) {
    if (close_reason_.ok()) close_reason_ = std::move(status);
    context_.TryCancel();
  }

  void OnReadDone(bool ok) override {
    absl::Status status;
    if (ok) status = TellMessages();
    absl::MutexLock lock(&mutex_);
    if (!ok || !status.ok()) {
      if (!status.ok()) CloseBecause(std::move(status));
      reading_ended_ = true;
      RemoveHold();
      return;
    }
    if (unhandled_ >= kMaxUnhandledEvents) {
      read_paused_ = true;
      return;
    }
    StartRead(incoming_);
  }

  // Calls the loop's mailbox, so outside the mutex.
  absl::Status TellMessages() {
    const bool is_welcome = incoming_->has_welcome();
    if (is_welcome == welcomed_) {
      return absl::InvalidArgumentError("Welcome must come first, and once");
    }
    welcomed_ = true;
    ASSIGN_OR_RETURN(std::vector<Event> events, EventsFromProto(origin_, *incoming_));
    {
      // Before the loop can hear of them.
      absl::MutexLock lock(&mutex_);
      unhandled_ += events.size();
    }
    arena_.Reset();
    incoming_ = google::protobuf::Arena::CreateMessage<v1::WorkerMessage>(&arena_);
    if (!news_(origin_, SessionMessages{std::move(events)})) {
      return absl::CancelledError("the router is stopping");
    }
    return absl::OkStatus();
  }

  void OnWriteDone(bool ok) override {
    absl::MutexLock lock(&mutex_);
    outgoing_.pop_front();
    if (!ok) {
      context_.TryCancel();  // the read ends with it
      return;
    }
    if (!outgoing_.empty() && !reading_ended_) StartWrite(outgoing_.front().get());
  }

  void OnDone(const grpc::Status& status) override {
    absl::Status told;
    {
      absl::MutexLock lock(&mutex_);
      told = close_reason_;
    }
    if (told.ok()) {
      told = status.ok() ? absl::UnavailableError("the worker closed the session")
                         : absl::Status(static_cast<absl::StatusCode>(status.error_code()),
                                        status.error_message());
    }
    // Let go first: what is left of the session then goes on the loop's thread, when it has read
    // the news, and not on gRPC's. Nothing of *this is touched after it.
    const NewsFn news = news_;
    const WorkerOrigin origin = origin_;
    self_ = nullptr;
    news(origin, SessionEnded{std::move(told)});
  }

  const std::unique_ptr<v1::Worker::Stub> stub_;
  const WorkerOrigin origin_;
  const NewsFn news_;
  grpc::ClientContext context_;
  // Of incoming_, which gRPC writes between StartRead and OnReadDone; both are touched by
  // OnReadDone only.
  const std::unique_ptr<char[]> arena_block_ = std::make_unique<char[]>(kArenaBytes);
  google::protobuf::Arena arena_{arena_block_.get(), kArenaBytes};
  v1::WorkerMessage* incoming_ = google::protobuf::Arena::CreateMessage<v1::WorkerMessage>(&arena_);
  bool welcomed_ = false;              // touched by OnReadDone only
  std::shared_ptr<GrpcSession> self_;  // until OnDone; the other owner is the link

  absl::Mutex mutex_;
  std::deque<std::unique_ptr<v1::RouterMessage>> outgoing_ ABSL_GUARDED_BY(mutex_);
  size_t unhandled_ ABSL_GUARDED_BY(mutex_) = 0;  // events
  bool read_paused_ ABSL_GUARDED_BY(mutex_) = false;
  bool reading_ended_ ABSL_GUARDED_BY(mutex_) = false;
  absl::Status close_reason_ ABSL_GUARDED_BY(mutex_);
};

}  // namespace

std::shared_ptr<WorkerSession> WorkerSession::Open(const std::shared_ptr<grpc::Channel>& channel,
                                                   const WorkerOrigin& origin,
                                                   const HelloFields& hello, NewsFn news) {
  auto session = std::make_shared<GrpcSession>(channel, origin, std::move(news));
  session->Start(session, hello);
  return session;
}

}  // namespace baton::router
