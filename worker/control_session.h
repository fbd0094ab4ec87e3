// One Session stream: gRPC's reactor with a bounded outgoing queue. Private to the control server.
#pragma once

#include <grpcpp/grpcpp.h>

#include <cstdint>
#include <deque>
#include <memory>
#include <optional>

#include "absl/base/thread_annotations.h"
#include "absl/synchronization/mutex.h"
#include "proto/baton/v1/worker.grpc.pb.h"
#include "worker/messages.h"

namespace baton {

class ControlSession;

// What a session tells its server, on gRPC's threads and without the session's lock held.
class ControlSessionOwner {
 public:
  virtual ~ControlSessionOwner() = default;
  virtual void OnMessage(const std::shared_ptr<ControlSession>& session,
                         const v1::RouterMessage& message) = 0;
  // The router closed its side, or the connection broke.
  virtual void OnReadsDone(const std::shared_ptr<ControlSession>& session) = 0;
};

// Lifetime: gRPC holds it from Session() to OnDone, through `self_`; the server's table is the
// second owner. Everything but the reactions may be called from any thread.
class ControlSession final : public grpc::ServerBidiReactor<v1::RouterMessage, v1::WorkerMessage> {
 public:
  static std::shared_ptr<ControlSession> Make(SessionId id, grpc::CallbackServerContext* context,
                                              ControlSessionOwner& owner, size_t max_queued);

  SessionId id() const { return id_; }
  void StartReading() { StartRead(&incoming_); }
  // False when the queue holds `share` of what it may; true also when the session has ended (the
  // message is dropped).
  bool Enqueue(v1::WorkerMessage message, double share = 1.0);
  // Sends Welcome, alone and before all else. From then on messages that wait may go together, at
  // most so many (Hello.max_batch_messages). Once, before Enqueue.
  void SendWelcome(v1::WorkerMessage welcome, int32_t max_batch_messages);
  // While held, messages wait, so that those of one step go together. What has ended still ends.
  void Hold(bool hold);
  // Replaces a status that still waits: only the latest is worth sending. Dropped before Welcome.
  void EnqueueStatus(v1::WorkerMessage message);
  // What waits when a session ends.
  enum class Waiting { kDrop, kSend };
  // Idempotent: the first status counts. A write that is under way, and with kSend all that is
  // queued, comes before the status, so a router that does not read keeps the call open until
  // Cancel.
  void End(grpc::Status status, Waiting waiting = Waiting::kDrop);
  void Cancel();

  void OnReadDone(bool ok) override;
  void OnWriteDone(bool ok) override;
  void OnCancel() override;
  void OnDone() override;

 private:
  ControlSession(SessionId id, grpc::CallbackServerContext* context, ControlSessionOwner& owner,
                 size_t max_queued)
      : id_(id), context_(context), owner_(owner), max_queued_(max_queued) {}
  void WriteNextLocked() ABSL_EXCLUSIVE_LOCKS_REQUIRED(mutex_);
  // Moves what waits, oldest first, into outgoing_. False: nothing does.
  bool FillOutgoingLocked() ABSL_EXCLUSIVE_LOCKS_REQUIRED(mutex_);

  const SessionId id_;
  grpc::CallbackServerContext* const context_;
  ControlSessionOwner& owner_;
  const size_t max_queued_;
  v1::RouterMessage incoming_;  // touched between StartRead and OnReadDone by gRPC only

  absl::Mutex mutex_;
  std::shared_ptr<ControlSession> self_ ABSL_GUARDED_BY(mutex_);  // until OnDone
  std::deque<v1::WorkerMessage> queue_ ABSL_GUARDED_BY(mutex_);
  std::optional<v1::WorkerMessage> status_ ABSL_GUARDED_BY(mutex_);
  v1::WorkerMessage outgoing_ ABSL_GUARDED_BY(mutex_);  // gRPC's while writing_
  bool welcomed_ ABSL_GUARDED_BY(mutex_) = false;
  size_t max_batch_ ABSL_GUARDED_BY(mutex_) = 1;  // messages; 1: no batches
  bool writing_ ABSL_GUARDED_BY(mutex_) = false;
  bool held_ ABSL_GUARDED_BY(mutex_) = false;
  bool finished_ ABSL_GUARDED_BY(mutex_) = false;  // Finish has been called
  bool done_ ABSL_GUARDED_BY(mutex_) = false;      // OnDone has been called
  std::optional<grpc::Status> end_ ABSL_GUARDED_BY(mutex_);
};

}  // namespace baton
