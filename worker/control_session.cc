#include "worker/control_session.h"

#include <algorithm>
#include <utility>

namespace baton {
namespace {

// A batch ends with the message that reaches this.
constexpr size_t kMaxBatchBytes = 64u << 10;

}  // namespace

std::shared_ptr<ControlSession> ControlSession::Make(SessionId id,
                                                     grpc::CallbackServerContext* context,
                                                     ControlSessionOwner& owner,
                                                     size_t max_queued) {
  std::shared_ptr<ControlSession> session(new ControlSession(id, context, owner, max_queued));
  absl::MutexLock lock(&session->mutex_);
  session->self_ = session;
  return session;
}

void ControlSession::SendWelcome(v1::WorkerMessage welcome, int32_t max_batch_messages) {
  absl::MutexLock lock(&mutex_);
  if (end_.has_value()) return;
  welcomed_ = true;
  queue_.push_back(std::move(welcome));
  held_ = false;
  WriteNextLocked();  // nothing else is there or under way
  max_batch_ = static_cast<size_t>(std::max(1, max_batch_messages));
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
  if (end_.has_value() || !welcomed_) return;
  status_ = std::move(message);
  if (!writing_) WriteNextLocked();
}

// gRPC never runs a reaction inside StartWrite or Finish, so calling them under the lock is safe.
void ControlSession::WriteNextLocked() {
  if (end_.has_value() && queue_.empty()) {
    if (!finished_) Finish(*end_);
    finished_ = true;
    return;
  }
  if (held_ || !FillOutgoingLocked()) return;
  writing_ = true;
  grpc::WriteOptions options;
  if (!queue_.empty()) options.set_buffer_hint();  // more follows at once: one packet for both
  StartWrite(&outgoing_, options);
}

bool ControlSession::FillOutgoingLocked() {
  const size_t waiting = queue_.size() + (status_.has_value() ? 1 : 0);
  if (waiting == 0) return false;
  const auto take = [this]() ABSL_EXCLUSIVE_LOCKS_REQUIRED(mutex_) {
    if (queue_.empty()) {
      v1::WorkerMessage status = std::move(*status_);
      status_.reset();
      return status;
    }
    v1::WorkerMessage message = std::move(queue_.front());
    queue_.pop_front();
    return message;
  };
  const size_t count = std::min(waiting, max_batch_);
  if (count == 1) {
    outgoing_ = take();
    return true;
  }
  auto* batch = outgoing_.mutable_batch()->mutable_messages();
  batch->Clear();
  size_t bytes = 0;
  for (size_t i = 0; i < count && bytes < kMaxBatchBytes; ++i) {
    batch->Add(take());
    bytes += batch->rbegin()->ByteSizeLong();
  }
  return true;
}

void ControlSession::Hold(bool hold) {
  absl::MutexLock lock(&mutex_);
  held_ = hold && !end_.has_value();
  if (!held_ && !writing_) WriteNextLocked();
}

void ControlSession::End(grpc::Status status, Waiting waiting) {
  absl::MutexLock lock(&mutex_);
  if (end_.has_value()) return;
  end_ = std::move(status);
  if (waiting == Waiting::kDrop) queue_.clear();
  held_ = false;
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
  if (!ok) queue_.clear();
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
