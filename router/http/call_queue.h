// Carries one call's events from the router's loop thread to the connection that serves it.
#pragma once

#include <cstddef>
#include <functional>
#include <memory>
#include <variant>
#include <vector>

#include "absl/base/thread_annotations.h"
#include "absl/synchronization/mutex.h"
#include "router/completion_service.h"

namespace baton {

struct CallEvent {
  size_t prompt = 0;  // which of the call's prompts
  // Prompt log-probabilities, text, or one of the two ends.
  std::variant<std::vector<OutputToken>, SampleDelta, RequestSummary, RequestError> what;
};

// Bounded; thread-safe; Push never blocks. A full queue drops the event and stays overflowed: the
// consumer then ends the call.
class CallQueue {
 public:
  // `wake` is called when the consumer should Take, under the queue's lock: it may only take note.
  CallQueue(size_t capacity, std::function<void()> wake);

  void Push(CallEvent event);
  std::vector<CallEvent> Take();
  bool overflowed() const;
  // From now on nothing is queued and nobody is woken: the consumer is gone.
  void Detach();

 private:
  const size_t capacity_;
  mutable absl::Mutex mutex_;
  std::function<void()> wake_ ABSL_GUARDED_BY(mutex_);
  std::vector<CallEvent> events_ ABSL_GUARDED_BY(mutex_);
  bool overflowed_ ABSL_GUARDED_BY(mutex_) = false;
};

// The router's view of one prompt. Shares the queue with the call that submitted it.
std::shared_ptr<ResponseSink> MakeQueueSink(std::shared_ptr<CallQueue> queue, size_t prompt,
                                            std::shared_ptr<SinkGroup> group);

}  // namespace baton
