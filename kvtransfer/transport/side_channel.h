// The TCP socket beside a UCX connection: it carries the handshake, and then nothing; its end is
// the end of the peer. Non-blocking: the owner polls the descriptor and calls Ready.
#pragma once

#include <cstddef>
#include <cstdint>
#include <memory>
#include <string>
#include <string_view>

#include "absl/status/status.h"
#include "absl/status/statusor.h"

namespace baton {

// Frame: u32 magic, u32 length of the body, body; little-endian (docs/wire_format.md).
inline constexpr size_t kMaxSideChannelFrameBytes = size_t{64} << 10;

class SideChannel {
 public:
  // Takes over `fd`: connected, or connecting without blocking.
  explicit SideChannel(int fd) : fd_(fd) {}
  ~SideChannel();
  SideChannel(const SideChannel&) = delete;
  SideChannel& operator=(const SideChannel&) = delete;

  static absl::StatusOr<std::unique_ptr<SideChannel>> Connect(const std::string& host,
                                                              int32_t port);

  int fd() const { return fd_; }
  // Queues one frame; at most kMaxSideChannelFrameBytes.
  void Write(std::string_view body);
  bool wants_write() const { return !outgoing_.empty(); }
  // Reads and writes what it can. An error means that the channel is over.
  absl::Status Ready();
  // Ends the channel for the peer; what is queued is lost.
  void Shutdown();
  // The next whole frame that was read; nullptr when there is none yet.
  std::unique_ptr<std::string> TakeFrame();
  // The local interface that the connection uses ("lo", "eth0"), empty when unknown.
  std::string LocalDevice() const;

 private:
  absl::Status ReadSome();
  absl::Status WriteSome();
  absl::Status CheckPrefix() const;

  const int fd_;
  std::string incoming_;
  std::string outgoing_;
};

}  // namespace baton
