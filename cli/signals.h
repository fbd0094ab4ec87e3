// SIGINT and SIGTERM as something a main thread can wait for.
#pragma once

#include "absl/time/time.h"

namespace baton {

// Blocks both signals in this thread and in every thread started later, and ignores SIGPIPE; so
// make it first. One for a process; used by one thread.
class SignalWaiter {
 public:
  SignalWaiter();
  ~SignalWaiter();
  SignalWaiter(const SignalWaiter&) = delete;
  SignalWaiter& operator=(const SignalWaiter&) = delete;

  // The signal's number, or 0 when `timeout` has passed first.
  int Wait(absl::Duration timeout);
  // Readable when a signal is pending: for poll().
  int fd() const { return fd_; }

 private:
  int fd_ = -1;
};

}  // namespace baton
