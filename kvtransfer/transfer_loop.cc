#include "kvtransfer/transfer_loop.h"

#include <pthread.h>

#include <algorithm>
#include <utility>

#include "absl/synchronization/notification.h"

namespace baton {
namespace {

// After something happened the next thing is usually near: looking again for this long is cheaper
// than a sleep and a wake-up, and short enough not to take a core from the compute threads.
constexpr absl::Duration kSpin = absl::Microseconds(50);
// A bound on every sleep, so that a lost wake-up costs a delay and not a hang.
constexpr absl::Duration kLongestSleep = absl::Seconds(1);

}  // namespace

TransferLoop::TransferLoop(std::string thread_name, TransportFactory& transports,
                           const Clock& clock, TransferLoopClient& client)
    : thread_name_(std::move(thread_name)),
      transports_(transports),
      clock_(clock),
      client_(client) {}

absl::Status TransferLoop::Start() {
  absl::Status status;
  absl::Notification begun;
  thread_ = std::thread([&, this] {
    pthread_setname_np(pthread_self(), thread_name_.c_str());
    auto transport = transports_.Create();
    if (transport.ok()) {
      transport_ = *std::move(transport);
      status = client_.Begin(*transport_);
    } else {
      status = transport.status();
    }
    const bool ok = status.ok();
    begun.Notify();  // `status` is the caller's again
    if (ok) Run(*transport_);
  });
  begun.WaitForNotification();
  if (!status.ok()) {
    thread_.join();
    transport_.reset();
  }
  return status;
}

void TransferLoop::Run(Transport& transport) {
  absl::Time last_activity = clock_.Now();
  while (!stopping_.load(std::memory_order_acquire)) {
    const bool progressed = transport.Progress();
    const absl::Time now = clock_.Now();
    if (client_.Step(now) || progressed) {
      last_activity = now;
    } else if (now - last_activity >= kSpin) {
      const absl::Duration due = client_.NextDeadline() - now;
      transport.Wait(std::clamp(due, absl::ZeroDuration(), kLongestSleep));
    }
  }
  client_.Finish(clock_.Now());
}

void TransferLoop::Stop() {
  if (!thread_.joinable()) return;
  stopping_.store(true, std::memory_order_release);
  Wake();
  thread_.join();
  transport_.reset();  // not on the thread: Wake above must not meet its end
}

void TransferLoop::Wake() { transport_->Wake(); }

}  // namespace baton
