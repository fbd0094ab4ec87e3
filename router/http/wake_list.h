// Connections whose calls have news, gathered until the router flushes.
#pragma once

#include <boost/asio/io_context.hpp>
#include <memory>
#include <vector>

#include "absl/base/thread_annotations.h"
#include "absl/synchronization/mutex.h"
#include "router/completion_service.h"

namespace baton {

class Connection;

// A wakeup for each token would cost more than the token: the router's loop and the server's
// threads would take turns on a core. Thread-safe.
class WakeList final : public SinkGroup {
 public:
  // `io` must live until Close.
  explicit WakeList(boost::asio::io_context& io) : io_(io) {}

  void Add(std::weak_ptr<Connection> connection);
  // Each connection polls its call, on its strand.
  void Flush() override;
  // Idempotent; Add and Flush then do nothing.
  void Close();

 private:
  boost::asio::io_context& io_;
  absl::Mutex mutex_;
  std::vector<std::weak_ptr<Connection>> waiting_ ABSL_GUARDED_BY(mutex_);
  bool closed_ ABSL_GUARDED_BY(mutex_) = false;
};

}  // namespace baton
