#include "router/http/http_server.h"

#include <netinet/tcp.h>

#include <algorithm>
#include <boost/asio/ip/tcp.hpp>
#include <boost/asio/post.hpp>
#include <boost/asio/steady_timer.hpp>
#include <string>
#include <string_view>
#include <thread>
#include <unordered_map>
#include <utility>
#include <vector>

#include "absl/strings/str_cat.h"
#include "absl/synchronization/mutex.h"
#include "common/check.h"
#include "common/file_limit.h"
#include "router/http/connection.h"

namespace baton {
namespace {

namespace net = boost::asio;
using boost::system::error_code;
using net::ip::tcp;

constexpr int kListenBacklog = 1024;
// When the process is out of descriptors, accepting again at once would spin.
constexpr auto kAcceptBackoff = std::chrono::milliseconds(100);
// What the kernel takes of an answer before it goes out: else megabytes for each slow reader.
using UnsentLimit = net::detail::socket_option::integer<IPPROTO_TCP, TCP_NOTSENT_LOWAT>;
constexpr int kMaxUnsentBytes = 128 << 10;
// Connections over the limit that are told so at the same time.
constexpr size_t kMaxRefusals = 256;
// After a forced stop, handlers only have to run once.
constexpr absl::Duration kForcedStopWait = absl::Seconds(5);

template <typename Acceptor>
absl::Status Listen(std::string_view protocol, const std::string& host, uint16_t port,
                    Acceptor* acceptor) {
  error_code error;
  const auto address = net::ip::make_address(host, error);
  if (error) {
    return absl::InvalidArgumentError(
        absl::StrCat("host '", host, "' is not an IP address, such as 127.0.0.1"));
  }
  const tcp::endpoint endpoint(address, port);
  acceptor->open(endpoint.protocol(), error);
  if (!error) acceptor->set_option(net::socket_base::reuse_address(true), error);
  if (!error) acceptor->bind(endpoint, error);
  if (!error) acceptor->listen(kListenBacklog, error);
  if (!error) return absl::OkStatus();
  return absl::UnavailableError(absl::StrCat("cannot listen for ", std::string(protocol), " on ",
                                             host, ":", port, ": ", error.message(),
                                             "; choose another port or stop what holds it"));
}

ApiError TooMany() {
  return {.http_status = 503,
          .message = "too many connections",
          .type = "server_error",
          .code = "too_many_connections",
          .retry_after_s = 1};
}

class Server final : public HttpServer {
 public:
  Server(HttpServerOptions options, HttpServerParts parts)
      : shared_(std::move(options), std::move(parts), io_),
        connections_gauge_(
            shared_.parts.metrics.AddGauge("http_connections", "Open HTTP connections")),
        acceptor_(net::make_strand(io_)),
        backoff_(acceptor_.get_executor()) {}

  ~Server() override { Stop(absl::ZeroDuration()); }

  absl::Status Start();
  uint16_t port() const override { return port_; }
  void Stop(absl::Duration drain_timeout) override;

 private:
  void Accept();
  void OnAccepted(error_code error, Socket socket);
  // Then `begin`, on the connection's strand.
  template <typename Begin>
  void Adopt(Socket socket, Begin begin);
  // Runs `what` on each open connection's strand.
  void ForEach(void (Connection::*what)());
  bool NoConnections() const ABSL_EXCLUSIVE_LOCKS_REQUIRED(mutex_) { return connections_.empty(); }

  net::io_context io_;
  HttpShared shared_;
  Gauge* const connections_gauge_;
  net::basic_socket_acceptor<tcp, Strand> acceptor_;
  net::basic_waitable_timer<std::chrono::steady_clock, net::wait_traits<std::chrono::steady_clock>,
                            Strand>
      backoff_;
  uint16_t port_ = 0;
  std::vector<std::thread> threads_;
  absl::Mutex mutex_;
  std::unordered_map<Connection*, std::weak_ptr<Connection>> connections_ ABSL_GUARDED_BY(mutex_);
  bool stopped_ = false;
};

absl::Status Server::Start() {
  const HttpServerOptions& options = shared_.options;
  if (options.tls.any()) {
    ASSIGN_OR_RETURN(shared_.tls, TlsContext::ForServer(options.tls));
  }
  RETURN_IF_ERROR(Listen("HTTP", options.host, options.port, &acceptor_));
  error_code error;
  port_ = acceptor_.local_endpoint(error).port();
  net::post(acceptor_.get_executor(), [this] { Accept(); });
  for (int i = 0; i < options.io_threads; ++i) {
    threads_.emplace_back([this] {
      const auto work = net::make_work_guard(io_);
      io_.run();
    });
  }
  return absl::OkStatus();
}

void Server::Accept() {
  acceptor_.async_accept(net::make_strand(io_), [this](error_code error, Socket socket) {
    OnAccepted(error, std::move(socket));
  });
}

void Server::OnAccepted(error_code error, Socket socket) {
  if (error == net::error::operation_aborted || !acceptor_.is_open()) return;
  if (error) {
    shared_.parts.logger.Warning("accept failed", {{"error", error.message()}});
    backoff_.expires_after(kAcceptBackoff);
    backoff_.async_wait([this](error_code cancelled) {
      if (!cancelled && acceptor_.is_open()) Accept();
    });
    return;
  }
  size_t open = 0;
  {
    absl::MutexLock lock(&mutex_);
    open = connections_.size();
  }
  const size_t limit = shared_.options.max_connections;
  if (IsFromReserve(socket.native_handle())) {
    shared_.metrics.over_limit->Increment();  // and it closes
  } else if (open < limit) {
    Adopt(std::move(socket), [](Connection& connection) { connection.Start(); });
  } else {
    shared_.metrics.over_limit->Increment();
    // A refusal takes a moment too: the client must get it before the connection goes.
    if (open < limit + std::min(kMaxRefusals, limit / 8 + 32)) {
      Adopt(std::move(socket), [](Connection& connection) { connection.Refuse(TooMany()); });
    }
  }
  Accept();
}

template <typename Begin>
void Server::Adopt(Socket socket, Begin begin) {
  error_code ignored;
  socket.set_option(tcp::no_delay(true), ignored);
  socket.set_option(UnsentLimit(kMaxUnsentBytes), ignored);
  socket.non_blocking(true, ignored);
  // The deleter is the only place that knows when a connection's last operation has ended.
  auto connection = std::shared_ptr<Connection>(
      new Connection(std::move(socket), shared_), [this](Connection* ended) {
        delete ended;
        absl::MutexLock lock(&mutex_);
        connections_.erase(ended);
        connections_gauge_->Set(static_cast<double>(connections_.size()));
      });
  {
    absl::MutexLock lock(&mutex_);
    connections_.emplace(connection.get(), connection);
    connections_gauge_->Set(static_cast<double>(connections_.size()));
  }
  net::post(connection->strand(), [connection, begin] { begin(*connection); });
}

void Server::ForEach(void (Connection::*what)()) {
  std::vector<std::shared_ptr<Connection>> open;
  {
    absl::MutexLock lock(&mutex_);
    for (const auto& [_, weak] : connections_) {
      if (auto connection = weak.lock()) open.push_back(std::move(connection));
    }
  }
  for (auto& connection : open) {
    const Strand strand = connection->strand();
    net::post(strand, [connection = std::move(connection), what] { (connection.get()->*what)(); });
  }
}

void Server::Stop(absl::Duration drain_timeout) {
  if (std::exchange(stopped_, true)) return;
  if (threads_.empty()) return;  // never started
  shared_.draining.store(true, std::memory_order_relaxed);
  net::post(acceptor_.get_executor(), [this] {
    error_code ignored;
    acceptor_.close(ignored);
    backoff_.cancel();
  });
  ForEach(&Connection::Drain);
  bool empty = false;
  {
    absl::MutexLock lock(&mutex_);
    empty = mutex_.AwaitWithTimeout(absl::Condition(this, &Server::NoConnections), drain_timeout);
  }
  if (!empty) {
    ForEach(&Connection::Close);
    absl::MutexLock lock(&mutex_);
    mutex_.AwaitWithTimeout(absl::Condition(this, &Server::NoConnections), kForcedStopWait);
  }
  shared_.workers.join();
  io_.stop();
  for (std::thread& thread : threads_) thread.join();
  shared_.wakes->Close();
}

}  // namespace

absl::StatusOr<std::unique_ptr<HttpServer>> StartHttpServer(HttpServerOptions options,
                                                            HttpServerParts parts) {
  auto server = std::make_unique<Server>(std::move(options), std::move(parts));
  RETURN_IF_ERROR(server->Start());
  return server;
}

absl::Status CheckCanListen(std::string_view protocol, const std::string& host, uint16_t port) {
  net::io_context io;
  tcp::acceptor acceptor(io);
  return Listen(protocol, host, port, &acceptor);
}

}  // namespace baton
