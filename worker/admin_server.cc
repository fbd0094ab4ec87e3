#include "worker/admin_server.h"

#include <atomic>
#include <boost/asio.hpp>
#include <boost/beast/core.hpp>
#include <boost/beast/http.hpp>
#include <chrono>
#include <optional>
#include <thread>
#include <utility>

#include "absl/strings/str_cat.h"
#include "common/check.h"
#include "common/file_limit.h"

namespace baton {
namespace {

namespace asio = boost::asio;
namespace beast = boost::beast;
namespace http = boost::beast::http;
using boost::system::error_code;
using Tcp = asio::ip::tcp;

// What the connections of one server share. On the admin thread only.
struct Shared {
  const AdminServerOptions options;
  const AdminServer::Handler handler;
  int32_t connections = 0;
};

// One connection. Kept alive by the operation that is under way.
class AdminConnection : public std::enable_shared_from_this<AdminConnection> {
 public:
  AdminConnection(Tcp::socket socket, Shared& shared)
      : stream_(std::move(socket)), shared_(shared) {
    ++shared_.connections;
  }
  ~AdminConnection() { --shared_.connections; }

  void Read() {
    parser_.emplace();
    parser_->header_limit(static_cast<uint32_t>(shared_.options.max_header_bytes));
    stream_.expires_after(
        std::chrono::milliseconds(absl::ToInt64Milliseconds(shared_.options.idle_timeout)));
    // The head alone: what has a body is refused before any of it is read.
    http::async_read_header(
        stream_, buffer_, *parser_,
        [self = shared_from_this()](error_code error, size_t) { self->OnRead(error); });
  }

 private:
  void OnRead(error_code error) {
    if (error == http::error::end_of_stream || error == beast::error::timeout) return Close();
    if (error == http::error::header_limit || error == http::error::body_limit) {
      return Reply({.status = 413, .body = "request too large\n"}, /*keep_alive=*/false);
    }
    if (error) {
      const bool malformed =
          error.category() == make_error_code(http::error::bad_method).category();
      if (!malformed) return Close();
      return Reply({.status = 400, .body = "malformed request\n"}, /*keep_alive=*/false);
    }
    const auto& request = parser_->get();
    const bool has_body = !parser_->is_done();
    if (request.method() != http::verb::get && request.method() != http::verb::head) {
      return Reply({.status = 405, .body = "only GET\n"}, request.keep_alive() && !has_body);
    }
    if (has_body) return Reply({.status = 413, .body = "no body is read\n"}, /*keep_alive=*/false);
    const std::string target(request.target());
    Reply(shared_.handler(std::string_view(target).substr(0, target.find('?'))),
          request.keep_alive());
  }

  void Reply(AdminResponse answer, bool keep_alive) {
    response_.emplace(static_cast<http::status>(answer.status), 11);
    response_->set(http::field::content_type, answer.content_type);
    response_->set(http::field::cache_control, "no-store");
    if (answer.status == 405) response_->set(http::field::allow, "GET, HEAD");
    response_->body() = std::move(answer.body);
    response_->keep_alive(keep_alive);
    response_->prepare_payload();
    if (parser_->is_header_done() && parser_->get().method() == http::verb::head) {
      response_->body().clear();  // Content-Length stays, as HEAD demands
    }
    http::async_write(stream_, *response_,
                      [self = shared_from_this(), keep_alive](error_code error, size_t) {
                        if (error || !keep_alive) return self->Close();
                        self->Read();
                      });
  }

  void Close() {
    error_code ignored;
    stream_.socket().shutdown(Tcp::socket::shutdown_send, ignored);
  }

  beast::tcp_stream stream_;
  Shared& shared_;
  beast::flat_buffer buffer_{65536};
  std::optional<http::request_parser<http::string_body>> parser_;
  std::optional<http::response<http::string_body>> response_;
};

class AdminServerImpl final : public AdminServer {
 public:
  AdminServerImpl(const AdminServerOptions& options, Handler handler)
      : shared_{options, std::move(handler)}, acceptor_(io_) {}

  ~AdminServerImpl() override {
    io_.stop();
    if (thread_.joinable()) thread_.join();
  }

  absl::Status Listen() {
    error_code error;
    const std::string where = absl::StrCat(shared_.options.host, ":", shared_.options.port);
    const auto failed = [&](const char* what) {
      return absl::UnavailableError(
          absl::StrCat("cannot ", what, " ", where, " for metrics and health: ", error.message()));
    };
    const asio::ip::address address = asio::ip::make_address(
        shared_.options.host == "localhost" ? "127.0.0.1" : shared_.options.host, error);
    if (error) return failed("understand the address");
    const Tcp::endpoint endpoint(address, static_cast<uint16_t>(shared_.options.port));
    acceptor_.open(endpoint.protocol(), error);
    if (error) return failed("open a socket at");
    acceptor_.set_option(asio::socket_base::reuse_address(true), error);
    if (error) return failed("set up");
    acceptor_.bind(endpoint, error);
    if (error) return failed("bind");
    acceptor_.listen(asio::socket_base::max_listen_connections, error);
    if (error) return failed("listen on");
    port_ = acceptor_.local_endpoint().port();
    Accept();
    thread_ = std::thread([this] { io_.run(); });
    return absl::OkStatus();
  }

  int32_t port() const override { return port_; }

 private:
  void Accept() {
    acceptor_.async_accept([this](error_code error, Tcp::socket socket) {
      if (error == asio::error::operation_aborted) return;
      // Beyond the bound the socket is closed at once.
      if (!error && shared_.connections < shared_.options.max_connections &&
          !IsFromReserve(socket.native_handle())) {
        std::make_shared<AdminConnection>(std::move(socket), shared_)->Read();
      }
      Accept();
    });
  }

  Shared shared_;  // before io_: pending operations hold connections that point here
  asio::io_context io_{1};
  Tcp::acceptor acceptor_;
  int32_t port_ = 0;
  std::thread thread_;
};

}  // namespace

absl::StatusOr<std::unique_ptr<AdminServer>> AdminServer::Start(const AdminServerOptions& options,
                                                                Handler handler) {
  auto server = std::make_unique<AdminServerImpl>(options, std::move(handler));
  RETURN_IF_ERROR(server->Listen());
  return std::unique_ptr<AdminServer>(std::move(server));
}

}  // namespace baton
