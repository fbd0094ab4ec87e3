#include "worker/control_session.h"

#include <utility>

namespace baton {

std::shared_ptr<ControlSession> ControlSession::Make(SessionId id,
                                                     grpc::CallbackServerContext* context,
                                                     ControlSessionOwner& owner,
                                                     size_t max_queued) {
  std::shared_ptr<ControlSession> session(new ControlSession(id, context, owner, max_queued));
  absl::MutexLock lock(&session->mutex_);
  session->self_ = session;
  return session;
}

bool ControlSession::Enqueue(v1::WorkerMessage message, double share) {
  absl::MutexLock lock(&mutex_);
  if (end_.has_value()) return true;
  if (static_cast<double>(queue_.size()) >= share * static_cast<double>(max_queued_)) return false;
  queue_.push_back(std::move(message));
  if (!writing_) WriteNextLocked();
  return true;
}

void ControlSession::EnqueueStatus(v1::WorkerMessage message) {
  absl::MutexLock lock(&mutex_);
  if (end_.has_value()) return;
  status_ = std::move(message);
  if (!writing_) WriteNextLocked();
}

// gRPC never runs a reaction inside StartWrite or Finish, so calling them under the lock is safe.
void ControlSession::WriteNextLocked() {
  if (end_.has_value()) {
    if (!finished_) Finish(*end_);
    finished_ = true;
    return;
  }
  if (!queue_.empty()) {
    outgoing_ = std::move(queue_.front());
    queue_.pop_front();
  } else if (status_.has_value()) {
    outgoing_ = std::move(*status_);
    status_.reset();
  } else {
    return;
  }
  writing_ = true;
  grpc::WriteOptions options;
  if (!queue_.empty()) options.set_buffer_hint();  // more follows at once: one packet for both
  StartWrite(&outgoing_, options);
}

void ControlSession::End(grpc::Status status) {
  absl::MutexLock lock(&mutex_);
  if (end_.has_value()) return;
  end_ = std::move(status);
  queue_.clear();
  status_.reset();
  if (!writing_) WriteNextLocked();  // else when the write is done
}

void ControlSession::Cancel() {
  absl::MutexLock lock(&mutex_);
  if (!done_) context_->TryCancel();
}

void ControlSession::OnReadDone(bool ok) {
  std::shared_ptr<ControlSession> self;
  {
    absl::MutexLock lock(&mutex_);
    self = self_;
  }
  if (!ok) {
    owner_.OnReadsDone(self);
    return;
  }
  owner_.OnMessage(self, incoming_);
  absl::MutexLock lock(&mutex_);
  if (!finished_) StartRead(&incoming_);
}

void ControlSession::OnWriteDone(bool ok) {
  absl::MutexLock lock(&mutex_);
  writing_ = false;
  if (!ok && !end_.has_value()) end_ = grpc::Status(grpc::StatusCode::UNAVAILABLE, "stream broken");
  WriteNextLocked();
}

void ControlSession::OnCancel() {
  // The pending read fails too: OnReadDone(false) tells the owner.
}

void ControlSession::OnDone() {
  std::shared_ptr<ControlSession> self;  // may be the last owner: dropped after the lock
  absl::MutexLock lock(&mutex_);
  done_ = true;
  self = std::move(self_);
}

}  // namespace baton
