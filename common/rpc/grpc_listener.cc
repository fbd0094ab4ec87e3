#include "common/rpc/grpc_listener.h"

#include <grpcpp/security/server_credentials.h>
#include <grpcpp/server_builder.h>
#include <poll.h>
#include <sys/eventfd.h>
#include <unistd.h>

#include <cerrno>
#include <thread>
#include <utility>

#include "common/check.h"
#include "common/listening_socket.h"

namespace baton {
namespace {

// Before accepting again when there was no descriptor for it.
constexpr int kBackoffMs = 50;
constexpr int kHandshakeTimeoutMs = 10'000;

class Listener final : public GrpcListener {
 public:
  using Acceptor = grpc::experimental::ExternalConnectionAcceptor;

  Listener(ListeningSocket listening, std::unique_ptr<Acceptor> acceptor)
      : listening_(std::move(listening)),
        port_(listening_.port()),
        wake_fd_(eventfd(0, EFD_CLOEXEC)),
        acceptor_(std::move(acceptor)) {
    BATON_CHECK(wake_fd_ >= 0) << errno;
  }
  ~Listener() override {
    Stop();
    close(wake_fd_);
  }

  int32_t port() const override { return port_; }
  void Start() override {
    thread_ = std::thread([this] { Run(); });
  }
  void Stop() override {
    if (thread_.joinable()) {
      const uint64_t one = 1;
      BATON_CHECK(write(wake_fd_, &one, sizeof one) == sizeof one) << errno;
      thread_.join();
    }
    listening_ = ListeningSocket();
  }

 private:
  void Run() {
    pollfd waiting[] = {{.fd = wake_fd_, .events = POLLIN, .revents = 0},
                        {.fd = listening_.fd(), .events = POLLIN, .revents = 0}};
    while (true) {
      if (poll(waiting, 2, -1) < 0) continue;
      if (waiting[0].revents != 0) return;
      if (!AcceptAll()) poll(waiting, 1, kBackoffMs);  // Stop ends this too
    }
  }

  // False: something is missing that time may bring.
  bool AcceptAll() {
    while (true) {
      const int fd = listening_.Accept();
      if (fd >= 0) {
        Acceptor::NewConnectionParameters connection;
        connection.listener_fd = listening_.fd();
        connection.fd = fd;
        acceptor_->HandleNewConnection(&connection);
      } else if (errno == EAGAIN) {
        return true;
      } else if (errno != EINTR && errno != ECONNABORTED) {
        return false;
      }
    }
  }

  ListeningSocket listening_;
  const int32_t port_;  // also when it listens no more
  const int wake_fd_;
  const std::unique_ptr<Acceptor> acceptor_;
  std::thread thread_;
};

}  // namespace

absl::StatusOr<std::unique_ptr<GrpcListener>> GrpcListener::Bind(
    const std::string& host, int32_t port, std::shared_ptr<grpc::ServerCredentials> credentials,
    grpc::ServerBuilder& builder) {
  ASSIGN_OR_RETURN(ListeningSocket listening, ListeningSocket::Bind(host, port));
  // Who connects and says nothing: gRPC's own bound is two minutes.
  builder.AddChannelArgument(GRPC_ARG_SERVER_HANDSHAKE_TIMEOUT_MS, kHandshakeTimeoutMs);
  auto acceptor = builder.experimental().AddExternalConnectionAcceptor(
      grpc::ServerBuilder::experimental_type::ExternalConnectionType::FROM_FD,
      std::move(credentials));
  return std::make_unique<Listener>(std::move(listening), std::move(acceptor));
}

}  // namespace baton
