#include "bench/load/client/read_buffer.h"

#include <sys/socket.h>

#include <cerrno>
#include <cstring>
#include <ctime>

namespace baton::load {

void ReadBuffer::EnableTimestamps(int socket) {
  const int on = 1;
  (void)setsockopt(socket, SOL_SOCKET, SO_TIMESTAMPNS, &on, sizeof(on));
}

std::string_view ReadBuffer::Read(int socket, int* error) {
  alignas(cmsghdr) char control[CMSG_SPACE(sizeof(timespec))];
  iovec piece{.iov_base = bytes_.data(), .iov_len = bytes_.size()};
  msghdr message{};
  message.msg_iov = &piece;
  message.msg_iovlen = 1;
  message.msg_control = control;
  message.msg_controllen = sizeof(control);
  const ssize_t length = recvmsg(socket, &message, 0);
  *error = length < 0 ? errno : 0;
  if (length <= 0) return {};
  for (cmsghdr* header = CMSG_FIRSTHDR(&message); header != nullptr;
       header = CMSG_NXTHDR(&message, header)) {
    if (header->cmsg_level != SOL_SOCKET || header->cmsg_type != SCM_TIMESTAMPNS) continue;
    timespec arrived{};
    timespec now{};
    std::memcpy(&arrived, CMSG_DATA(header), sizeof(arrived));
    clock_gettime(CLOCK_REALTIME, &now);
    const double lag_ms = static_cast<double>(now.tv_sec - arrived.tv_sec) * 1e3 +
                          static_cast<double>(now.tv_nsec - arrived.tv_nsec) * 1e-6;
    if (lag_ms >= 0) lags_ms_.push_back(lag_ms);
  }
  return {bytes_.data(), static_cast<size_t>(length)};
}

}  // namespace baton::load
