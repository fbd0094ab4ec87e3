#include "common/rpc/grpc_listener.h"

#include <grpcpp/security/server_credentials.h>
#include <grpcpp/server_builder.h>
#include <netdb.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <poll.h>
#include <sys/eventfd.h>
#include <sys/socket.h>
#include <unistd.h>

#include <cerrno>
#include <cstring>
#include <thread>
#include <utility>

#include "absl/strings/str_cat.h"
#include "common/check.h"
#include "common/file_limit.h"

namespace baton {
namespace {

constexpr int kBacklog = 1024;
// Before accepting again when there was no descriptor for it.
constexpr int kBackoffMs = 50;
constexpr int kHandshakeTimeoutMs = 10'000;

// Closes what it holds.
class Descriptor {
 public:
  explicit Descriptor(int fd = -1) : fd_(fd) {}
  Descriptor(Descriptor&& other) noexcept : fd_(std::exchange(other.fd_, -1)) {}
  Descriptor& operator=(Descriptor&& other) noexcept {
    std::swap(fd_, other.fd_);
    return *this;
  }
  ~Descriptor() {
    if (fd_ >= 0) close(fd_);
  }
  int get() const { return fd_; }

 private:
  int fd_;
};

absl::StatusOr<Descriptor> Listen(const std::string& host, int32_t port) {
  const auto refused = [&](const std::string& why) {
    return absl::UnavailableError(absl::StrCat("cannot listen for gRPC on ", host, ":", port, ": ",
                                               why, "; choose another port or stop what holds it"));
  };
  addrinfo hints = {};
  hints.ai_family = AF_UNSPEC;
  hints.ai_socktype = SOCK_STREAM;
  hints.ai_flags = AI_PASSIVE | AI_NUMERICSERV;
  addrinfo* found = nullptr;
  // As the other ports take it, where the name has both kinds of address.
  const std::string address = host == "localhost" ? "127.0.0.1" : host;
  const int result = getaddrinfo(address.c_str(), absl::StrCat(port).c_str(), &hints, &found);
  if (result != 0) return refused(gai_strerror(result));
  const std::unique_ptr<addrinfo, void (*)(addrinfo*)> list(found, &freeaddrinfo);
  std::string why;
  for (const addrinfo* at = list.get(); at != nullptr; at = at->ai_next) {
    Descriptor fd(socket(at->ai_family, SOCK_STREAM | SOCK_NONBLOCK | SOCK_CLOEXEC, IPPROTO_TCP));
    const int on = 1;
    if (fd.get() >= 0 && setsockopt(fd.get(), SOL_SOCKET, SO_REUSEADDR, &on, sizeof on) == 0 &&
        bind(fd.get(), at->ai_addr, at->ai_addrlen) == 0 && listen(fd.get(), kBacklog) == 0) {
      return fd;
    }
    why = std::strerror(errno);
  }
  return refused(why);
}

int32_t PortOf(int fd) {
  sockaddr_storage bound = {};
  socklen_t length = sizeof bound;
  BATON_CHECK(getsockname(fd, reinterpret_cast<sockaddr*>(&bound), &length) == 0) << errno;
  return ntohs(bound.ss_family == AF_INET6 ? reinterpret_cast<sockaddr_in6*>(&bound)->sin6_port
                                           : reinterpret_cast<sockaddr_in*>(&bound)->sin_port);
}

class Listener final : public GrpcListener {
 public:
  using Acceptor = grpc::experimental::ExternalConnectionAcceptor;

  Listener(Descriptor listening, std::unique_ptr<Acceptor> acceptor)
      : listening_(std::move(listening)),
        wake_(eventfd(0, EFD_CLOEXEC)),
        port_(PortOf(listening_.get())),
        acceptor_(std::move(acceptor)) {
    BATON_CHECK(wake_.get() >= 0) << errno;
  }
  ~Listener() override { Stop(); }

  int32_t port() const override { return port_; }
  void Start() override {
    thread_ = std::thread([this] { Run(); });
  }
  void Stop() override {
    if (thread_.joinable()) {
      const uint64_t one = 1;
      BATON_CHECK(write(wake_.get(), &one, sizeof one) == sizeof one) << errno;
      thread_.join();
    }
    listening_ = Descriptor();
  }

 private:
  void Run() {
    pollfd waiting[] = {{.fd = wake_.get(), .events = POLLIN, .revents = 0},
                        {.fd = listening_.get(), .events = POLLIN, .revents = 0}};
    while (true) {
      if (poll(waiting, 2, -1) < 0) continue;
      if (waiting[0].revents != 0) return;
      if (!AcceptAll()) poll(waiting, 1, kBackoffMs);  // Stop ends this too
    }
  }

  // False: something is missing that time may bring.
  bool AcceptAll() {
    while (true) {
      const int fd = accept4(listening_.get(), nullptr, nullptr, SOCK_NONBLOCK | SOCK_CLOEXEC);
      if (fd >= 0 && IsFromReserve(fd)) {
        close(fd);
        return false;
      }
      if (fd >= 0) {
        const int on = 1;
        setsockopt(fd, IPPROTO_TCP, TCP_NODELAY, &on, sizeof on);
        Acceptor::NewConnectionParameters connection;
        connection.listener_fd = listening_.get();
        connection.fd = fd;
        acceptor_->HandleNewConnection(&connection);
      } else if (errno == EAGAIN) {
        return true;
      } else if (errno != EINTR && errno != ECONNABORTED) {
        return false;
      }
    }
  }

  Descriptor listening_;
  const Descriptor wake_;
  const int32_t port_;
  const std::unique_ptr<Acceptor> acceptor_;
  std::thread thread_;
};

}  // namespace

absl::StatusOr<std::unique_ptr<GrpcListener>> GrpcListener::Bind(
    const std::string& host, int32_t port, std::shared_ptr<grpc::ServerCredentials> credentials,
    grpc::ServerBuilder& builder) {
  ASSIGN_OR_RETURN(Descriptor listening, Listen(host, port));
  // Who connects and says nothing: gRPC's own bound is two minutes.
  builder.AddChannelArgument(GRPC_ARG_SERVER_HANDSHAKE_TIMEOUT_MS, kHandshakeTimeoutMs);
  auto acceptor = builder.experimental().AddExternalConnectionAcceptor(
      grpc::ServerBuilder::experimental_type::ExternalConnectionType::FROM_FD,
      std::move(credentials));
  return std::make_unique<Listener>(std::move(listening), std::move(acceptor));
}

}  // namespace baton
