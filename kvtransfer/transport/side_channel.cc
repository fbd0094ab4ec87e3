#include "kvtransfer/transport/side_channel.h"

#include <arpa/inet.h>
#include <ifaddrs.h>
#include <netdb.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <sys/socket.h>
#include <unistd.h>

#include <cerrno>
#include <cstring>

#include "absl/strings/str_cat.h"
#include "common/bytes.h"
#include "common/check.h"

namespace baton {
namespace {

constexpr uint32_t kSideChannelMagic = 0x314f5442;  // "BTO1" in memory order
constexpr size_t kPrefixBytes = 8;

absl::Status SocketError(const std::string& what) {
  return absl::UnavailableError(absl::StrCat(what, ": ", std::strerror(errno)));
}

struct AddressInfo {
  addrinfo* list = nullptr;
  ~AddressInfo() {
    if (list != nullptr) freeaddrinfo(list);
  }
};

absl::Status Resolve(const std::string& host, int32_t port, AddressInfo& info) {
  addrinfo hints = {};
  hints.ai_family = AF_UNSPEC;
  hints.ai_socktype = SOCK_STREAM;
  hints.ai_flags = AI_NUMERICSERV;
  const int result = getaddrinfo(host.c_str(), absl::StrCat(port).c_str(), &hints, &info.list);
  if (result == 0) return absl::OkStatus();
  return absl::UnavailableError(
      absl::StrCat("cannot resolve KV address ", host, ": ", gai_strerror(result)));
}

const void* IpOf(const sockaddr* address, size_t* length_bytes) {
  if (address->sa_family == AF_INET) {
    *length_bytes = sizeof(in_addr);
    return &reinterpret_cast<const sockaddr_in*>(address)->sin_addr;
  }
  if (address->sa_family == AF_INET6) {
    *length_bytes = sizeof(in6_addr);
    return &reinterpret_cast<const sockaddr_in6*>(address)->sin6_addr;
  }
  return nullptr;
}

}  // namespace

SideChannel::~SideChannel() { close(fd_); }

absl::StatusOr<std::unique_ptr<SideChannel>> SideChannel::Connect(const std::string& host,
                                                                  int32_t port) {
  AddressInfo info;
  RETURN_IF_ERROR(Resolve(host, port, info));
  const int fd =
      socket(info.list->ai_family, SOCK_STREAM | SOCK_NONBLOCK | SOCK_CLOEXEC, IPPROTO_TCP);
  if (fd < 0) return SocketError("KV side channel");
  auto channel = std::make_unique<SideChannel>(fd);
  if (connect(fd, info.list->ai_addr, info.list->ai_addrlen) != 0 && errno != EINPROGRESS) {
    return SocketError(absl::StrCat("cannot connect to KV receiver ", host, ":", port));
  }
  const int on = 1;
  setsockopt(fd, IPPROTO_TCP, TCP_NODELAY, &on, sizeof on);
  return channel;
}

void SideChannel::Shutdown() { shutdown(fd_, SHUT_RDWR); }

void SideChannel::Write(std::string_view body) {
  BATON_CHECK(body.size() <= kMaxSideChannelFrameBytes) << body.size();
  outgoing_ += ByteWriter()
                   .Put<uint32_t>(kSideChannelMagic)
                   .Put<uint32_t>(static_cast<uint32_t>(body.size()))
                   .PutBytes(body)
                   .Take();
}

absl::Status SideChannel::Ready() {
  RETURN_IF_ERROR(WriteSome());
  return ReadSome();
}

absl::Status SideChannel::WriteSome() {
  while (!outgoing_.empty()) {
    const ssize_t sent = send(fd_, outgoing_.data(), outgoing_.size(), MSG_NOSIGNAL);
    if (sent > 0) {
      outgoing_.erase(0, static_cast<size_t>(sent));
    } else if (errno == EAGAIN || errno == EINPROGRESS || errno == ENOTCONN) {
      return absl::OkStatus();
    } else if (errno != EINTR) {
      return SocketError("KV side channel");
    }
  }
  return absl::OkStatus();
}

absl::Status SideChannel::ReadSome() {
  char buffer[4096];
  while (true) {
    const ssize_t got = recv(fd_, buffer, sizeof buffer, 0);
    if (got > 0) {
      incoming_.append(buffer, static_cast<size_t>(got));
      RETURN_IF_ERROR(CheckPrefix());
    } else if (got == 0) {
      return absl::UnavailableError("the peer has closed");
    } else if (errno == EAGAIN || errno == ENOTCONN) {
      return absl::OkStatus();
    } else if (errno != EINTR) {
      return SocketError("KV side channel");
    }
  }
}

absl::Status SideChannel::CheckPrefix() const {
  if (incoming_.size() < kPrefixBytes) return absl::OkStatus();
  ByteReader reader(incoming_);
  const auto magic = reader.Get<uint32_t>();
  const auto length_bytes = reader.Get<uint32_t>();
  if (magic != kSideChannelMagic || length_bytes > kMaxSideChannelFrameBytes) {
    return absl::InvalidArgumentError("the peer does not speak the KV side channel");
  }
  if (incoming_.size() > 2 * (kPrefixBytes + kMaxSideChannelFrameBytes)) {
    return absl::InvalidArgumentError("the peer floods the KV side channel");
  }
  return absl::OkStatus();
}

std::unique_ptr<std::string> SideChannel::TakeFrame() {
  if (incoming_.size() < kPrefixBytes || !CheckPrefix().ok()) return nullptr;
  ByteReader reader(incoming_);
  reader.Get<uint32_t>();
  const auto length_bytes = reader.Get<uint32_t>();
  if (incoming_.size() < kPrefixBytes + length_bytes) return nullptr;
  auto frame = std::make_unique<std::string>(incoming_.substr(kPrefixBytes, length_bytes));
  incoming_.erase(0, kPrefixBytes + length_bytes);
  return frame;
}

std::string SideChannel::LocalDevice() const {
  sockaddr_storage local = {};
  socklen_t length = sizeof local;
  if (getsockname(fd_, reinterpret_cast<sockaddr*>(&local), &length) != 0) return "";
  size_t ip_bytes = 0;
  const void* ip = IpOf(reinterpret_cast<const sockaddr*>(&local), &ip_bytes);
  ifaddrs* interfaces = nullptr;
  if (ip == nullptr || getifaddrs(&interfaces) != 0) return "";
  std::string name;
  for (const ifaddrs* at = interfaces; at != nullptr && name.empty(); at = at->ifa_next) {
    if (at->ifa_addr == nullptr || at->ifa_addr->sa_family != local.ss_family) continue;
    size_t bytes = 0;
    const void* other = IpOf(at->ifa_addr, &bytes);
    if (other != nullptr && std::memcmp(ip, other, ip_bytes) == 0) name = at->ifa_name;
  }
  freeifaddrs(interfaces);
  return name;
}

}  // namespace baton
