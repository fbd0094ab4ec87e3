// Listening TCP sockets that do not block. Thread-safe.
#pragma once

#include <cstdint>
#include <string>
#include <utility>

#include "absl/status/statusor.h"

namespace baton {

// Closes what it holds. Movable.
class ListeningSocket {
 public:
  ListeningSocket() = default;
  ListeningSocket(ListeningSocket&& other) noexcept { *this = std::move(other); }
  ListeningSocket& operator=(ListeningSocket&& other) noexcept {
    std::swap(fd_, other.fd_);
    std::swap(port_, other.port_);
    return *this;
  }
  ~ListeningSocket();

  // On the first address of `host` that can be bound; "localhost" is 127.0.0.1 on every machine.
  // `port`: 0 takes any. UNAVAILABLE says why.
  static absl::StatusOr<ListeningSocket> Bind(const std::string& host, int32_t port);

  int fd() const { return fd_; }
  int32_t port() const { return port_; }

  // The next connection, without blocking or delay; else -1 with errno: EAGAIN when nobody waits,
  // EMFILE also for one that would have taken from the reserve (common/file_limit.h) and is closed.
  int Accept() const;

 private:
  int fd_ = -1;
  int32_t port_ = 0;
};

}  // namespace baton
