#include "common/listening_socket.h"

#include <netdb.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <sys/socket.h>
#include <unistd.h>

#include <cerrno>
#include <cstring>
#include <memory>

#include "absl/strings/str_cat.h"
#include "common/check.h"
#include "common/file_limit.h"

namespace baton {
namespace {

constexpr int kBacklog = 1024;

int32_t PortOf(int fd) {
  sockaddr_storage bound = {};
  socklen_t length = sizeof bound;
  BATON_CHECK(getsockname(fd, reinterpret_cast<sockaddr*>(&bound), &length) == 0) << errno;
  return ntohs(bound.ss_family == AF_INET6 ? reinterpret_cast<sockaddr_in6*>(&bound)->sin6_port
                                           : reinterpret_cast<sockaddr_in*>(&bound)->sin_port);
}

}  // namespace

ListeningSocket::~ListeningSocket() {
  if (fd_ >= 0) close(fd_);
}

absl::StatusOr<ListeningSocket> ListeningSocket::Bind(const std::string& host, int32_t port) {
  const auto refused = [&](const std::string& why) {
    return absl::UnavailableError(absl::StrCat("cannot listen on ", host, ":", port, ": ", why,
                                               "; choose another port or stop what holds it"));
  };
  addrinfo hints = {};
  hints.ai_family = AF_UNSPEC;
  hints.ai_socktype = SOCK_STREAM;
  hints.ai_flags = AI_PASSIVE | AI_NUMERICSERV;
  addrinfo* found = nullptr;
  const std::string address = host == "localhost" ? "127.0.0.1" : host;
  const int result = getaddrinfo(address.c_str(), absl::StrCat(port).c_str(), &hints, &found);
  if (result != 0) return refused(gai_strerror(result));
  const std::unique_ptr<addrinfo, void (*)(addrinfo*)> list(found, &freeaddrinfo);
  std::string why;
  for (const addrinfo* at = list.get(); at != nullptr; at = at->ai_next) {
    ListeningSocket listening;
    listening.fd_ = socket(at->ai_family, SOCK_STREAM | SOCK_NONBLOCK | SOCK_CLOEXEC, IPPROTO_TCP);
    const int on = 1;
    if (listening.fd_ >= 0 &&
        setsockopt(listening.fd_, SOL_SOCKET, SO_REUSEADDR, &on, sizeof on) == 0 &&
        bind(listening.fd_, at->ai_addr, at->ai_addrlen) == 0 &&
        listen(listening.fd_, kBacklog) == 0) {
      listening.port_ = PortOf(listening.fd_);
      return listening;
    }
    why = std::strerror(errno);
  }
  return refused(why);
}

int ListeningSocket::Accept() const {
  const int fd = accept4(fd_, nullptr, nullptr, SOCK_NONBLOCK | SOCK_CLOEXEC);
  if (fd < 0) return -1;
  if (IsFromReserve(fd)) {
    close(fd);
    errno = EMFILE;
    return -1;
  }
  const int on = 1;
  setsockopt(fd, IPPROTO_TCP, TCP_NODELAY, &on, sizeof on);
  return fd;
}

}  // namespace baton
