// How rank 0 of a tensor-parallel group tells another rank what to do: frames over a socket pair.
#pragma once

#include <string>
#include <string_view>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "absl/time/time.h"

namespace baton {

// One end. Owns the descriptor. Not thread-safe. A rank that is idle waits in Wait, a while at a
// time; the end of either process ends the other's Receive and Send.
class RankChannel {
 public:
  explicit RankChannel(int fd) : fd_(fd) {}  // of a connected stream socket
  ~RankChannel();
  RankChannel(RankChannel&& other) noexcept;
  RankChannel& operator=(RankChannel&&) = delete;

  // UNAVAILABLE: the other end is gone.
  absl::Status Send(std::string_view frame);
  // Whether there is something to Receive, a frame or the other end's going, within `timeout`.
  bool Wait(absl::Duration timeout) const;
  // The next frame. UNAVAILABLE: the other end is gone; INVALID_ARGUMENT: it says that the frame is
  // longer than kMaxFrameBytes.
  absl::StatusOr<std::string> Receive();

  static constexpr size_t kMaxFrameBytes = size_t{1} << 30;

 private:
  int fd_;
};

// UNAVAILABLE: the other end of a connected stream socket is gone. Any thread.
absl::Status CheckOtherEnd(int fd);

}  // namespace baton
