#include "router/http/call_queue.h"

#include <utility>

namespace baton {
namespace {

class QueueSink final : public ResponseSink {
 public:
  QueueSink(std::shared_ptr<CallQueue> queue, size_t prompt, std::shared_ptr<SinkGroup> group)
      : queue_(std::move(queue)), prompt_(prompt), group_(std::move(group)) {}

  void OnPromptLogprobs(std::vector<OutputToken> tokens) override {
    queue_->Push({prompt_, std::move(tokens)});
  }
  void OnDelta(SampleDelta delta) override { queue_->Push({prompt_, std::move(delta)}); }
  void OnFinish(RequestSummary summary) override { queue_->Push({prompt_, std::move(summary)}); }
  void OnError(RequestError error) override { queue_->Push({prompt_, std::move(error)}); }
  std::shared_ptr<SinkGroup> group() const override { return group_; }

 private:
  const std::shared_ptr<CallQueue> queue_;  // second owner: the CompletionCall
  const size_t prompt_;
  const std::shared_ptr<SinkGroup> group_;
};

}  // namespace

CallQueue::CallQueue(size_t capacity, std::function<void()> wake)
    : capacity_(capacity), wake_(std::move(wake)) {}

void CallQueue::Push(CallEvent event) {
  absl::MutexLock lock(&mutex_);
  if (!wake_ || overflowed_) return;
  const bool was_empty = events_.empty();
  if (events_.size() < capacity_) {
    events_.push_back(std::move(event));
  } else {
    overflowed_ = true;
  }
  if (was_empty || overflowed_) wake_();
}

std::vector<CallEvent> CallQueue::Take() {
  absl::MutexLock lock(&mutex_);
  return std::exchange(events_, {});
}

bool CallQueue::overflowed() const {
  absl::MutexLock lock(&mutex_);
  return overflowed_;
}

void CallQueue::Detach() {
  absl::MutexLock lock(&mutex_);
  wake_ = nullptr;
  events_.clear();
}

std::shared_ptr<ResponseSink> MakeQueueSink(std::shared_ptr<CallQueue> queue, size_t prompt,
                                            std::shared_ptr<SinkGroup> group) {
  return std::make_shared<QueueSink>(std::move(queue), prompt, std::move(group));
}

}  // namespace baton
