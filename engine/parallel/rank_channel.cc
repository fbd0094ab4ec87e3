#include "engine/parallel/rank_channel.h"

#include <poll.h>
#include <sys/socket.h>
#include <sys/uio.h>
#include <unistd.h>

#include <cerrno>
#include <cstdint>
#include <cstring>
#include <utility>

#include "absl/strings/str_cat.h"
#include "common/check.h"

namespace baton {
namespace {

absl::Status Gone(const char* what) {
  return absl::UnavailableError(absl::StrCat("tensor parallelism: ", what));
}

absl::Status ReadAll(int fd, char* data, size_t size) {
  while (size > 0) {
    const ssize_t got = recv(fd, data, size, 0);
    if (got < 0 && errno == EINTR) continue;
    if (got == 0) return Gone("the other rank has closed its channel");
    if (got < 0) return Gone(std::strerror(errno));
    data += got;
    size -= static_cast<size_t>(got);
  }
  return absl::OkStatus();
}

absl::Status WriteAll(int fd, const char* data, size_t size) {
  while (size > 0) {
    const ssize_t sent = send(fd, data, size, MSG_NOSIGNAL);
    if (sent < 0 && errno == EINTR) continue;
    if (sent < 0) return Gone(std::strerror(errno));
    data += sent;
    size -= static_cast<size_t>(sent);
  }
  return absl::OkStatus();
}

}  // namespace

absl::Status CheckOtherEnd(int fd) {
  pollfd channel{.fd = fd, .events = POLLRDHUP, .revents = 0};
  return poll(&channel, 1, 0) > 0 ? Gone("the other rank has closed its channel")
                                  : absl::OkStatus();
}

RankChannel::~RankChannel() {
  if (fd_ >= 0) close(fd_);
}

RankChannel::RankChannel(RankChannel&& other) noexcept : fd_(std::exchange(other.fd_, -1)) {}

absl::Status RankChannel::Send(std::string_view frame) {
  BATON_CHECK(frame.size() <= kMaxFrameBytes) << frame.size();
  // One write for short frames: the other rank need not wake up twice.
  std::string bytes(sizeof(uint64_t), '\0');
  const uint64_t length_bytes = frame.size();
  std::memcpy(bytes.data(), &length_bytes, sizeof(length_bytes));
  bytes.append(frame);
  return WriteAll(fd_, bytes.data(), bytes.size());
}

bool RankChannel::Wait(absl::Duration timeout) const {
  pollfd channel{.fd = fd_, .events = POLLIN, .revents = 0};
  const bool forever = timeout == absl::InfiniteDuration();
  const int timeout_ms = forever ? -1 : static_cast<int>(absl::ToInt64Milliseconds(timeout));
  return poll(&channel, 1, timeout_ms) > 0;
}

absl::StatusOr<std::string> RankChannel::Receive() {
  uint64_t length_bytes = 0;
  RETURN_IF_ERROR(ReadAll(fd_, reinterpret_cast<char*>(&length_bytes), sizeof(length_bytes)));
  if (length_bytes > kMaxFrameBytes) {
    return absl::InvalidArgumentError(
        absl::StrCat("tensor parallelism: a frame of ", length_bytes, " bytes"));
  }
  std::string frame(length_bytes, '\0');
  RETURN_IF_ERROR(ReadAll(fd_, frame.data(), frame.size()));
  return frame;
}

}  // namespace baton
