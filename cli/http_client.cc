#include "cli/http_client.h"

#include <boost/asio/connect.hpp>
#include <boost/asio/io_context.hpp>
#include <boost/asio/ip/tcp.hpp>
#include <boost/asio/ssl.hpp>
#include <boost/beast/core.hpp>
#include <boost/beast/http.hpp>
#include <boost/beast/ssl.hpp>
#include <chrono>
#include <nlohmann/json.hpp>
#include <optional>
#include <sstream>
#include <utility>

#include "absl/strings/str_cat.h"
#include "common/check.h"
#include "common/strings.h"

namespace baton {
namespace {

namespace beast = boost::beast;
namespace http = beast::http;
namespace ssl = boost::asio::ssl;
using boost::asio::ip::tcp;

// Splits a byte stream into the payloads of its `data:` lines.
class EventSplitter {
 public:
  explicit EventSplitter(const std::function<void(std::string_view)>& on_data)
      : on_data_(on_data) {}

  void Push(std::string_view bytes) {
    line_.append(bytes);
    size_t begin = 0;
    for (size_t end; (end = line_.find('\n', begin)) != std::string::npos; begin = end + 1) {
      const std::string_view line(line_.data() + begin, end - begin);
      constexpr std::string_view kData = "data: ";
      if (line.starts_with(kData) && line.substr(kData.size()) != "[DONE]") {
        on_data_(line.substr(kData.size()));
      }
    }
    line_.erase(0, begin);
  }

 private:
  const std::function<void(std::string_view)>& on_data_;
  std::string line_;
};

std::string ErrorMessage(const std::string& body) {
  const auto json = nlohmann::json::parse(body, nullptr, false);
  if (json.is_object() && json.contains("error") && json["error"].is_object()) {
    return json["error"].value("message", body);
  }
  return body.substr(0, 500);
}

// Runs one asynchronous operation to its end; the stream's expiry bounds it.
template <typename Start>
boost::system::error_code Await(boost::asio::io_context& io, Start start) {
  boost::system::error_code result = boost::asio::error::would_block;
  start([&result](boost::system::error_code error, auto&&...) { result = error; });
  io.restart();
  io.run();
  return result;
}

absl::Status Failed(std::string_view what, const HttpServerAddress& server,
                    boost::system::error_code error) {
  return absl::UnavailableError(
      absl::StrCat(View(what), " ", server.host, ":", server.port, ": ", error.message()));
}

constexpr std::uint64_t kMaxBodyBytes = std::uint64_t{64} << 20;
constexpr size_t kReadBytes = 16384;

// One request on a connection of its own, up to the answer's header.
struct Exchange {
  Exchange() { parser.body_limit(kMaxBodyBytes); }

  absl::Status Send(const HttpServerAddress& server, http::request<http::string_body> request,
                    absl::Duration timeout) {
    RETURN_IF_ERROR(Connect(server, timeout));
    request.set(http::field::host, server.host);
    if (!server.api_key.empty()) {
      request.set(http::field::authorization, absl::StrCat("Bearer ", server.api_key));
    }
    request.prepare_payload();
    std::ostringstream text;
    text << request;
    boost::system::error_code error = Write(text.str());
    if (error) return Failed("cannot send to", server, error);
    while (!parser.is_header_done() && !error) error = Read();
    if (error) return Failed("no answer from", server, error);
    return absl::OkStatus();
  }
  // Reads on to the end; `on_piece` sees the parser's body grow and may take it away.
  absl::Status Receive(const HttpServerAddress& server,
                       const std::function<void(std::string&)>& on_piece) {
    while (!parser.is_done()) {
      const boost::system::error_code error = Read();
      if (error) return Failed("answer cut off by", server, error);
      on_piece(parser.get().body());
    }
    return absl::OkStatus();
  }
  bool ok() const { return parser.get().result() == http::status::ok; }
  absl::Status Error() const {
    return absl::UnknownError(
        absl::StrCat("HTTP ", parser.get().result_int(), ": ", ErrorMessage(parser.get().body())));
  }

  boost::asio::io_context io;
  ssl::context tls{ssl::context::tls_client};
  beast::tcp_stream tcp{io};
  std::optional<beast::ssl_stream<beast::tcp_stream&>> secure;  // over `tcp`
  beast::flat_buffer buffer;
  http::response_parser<http::string_body> parser;

 private:
  absl::Status Connect(const HttpServerAddress& server, absl::Duration timeout) {
    boost::system::error_code error;
    const auto endpoints = tcp::resolver(io).resolve(server.host, server.port, error);
    if (error) return Failed("cannot resolve", server, error);
    tcp.expires_after(absl::ToChronoMilliseconds(timeout));
    error = Await(io, [&](auto done) { tcp.async_connect(endpoints, std::move(done)); });
    if (error) return Failed("cannot connect to", server, error);
    if (!server.tls) return absl::OkStatus();
    if (server.tls_ca.empty()) {
      tls.set_default_verify_paths(error);
    } else {
      tls.load_verify_file(server.tls_ca, error);
    }
    if (error) {
      return absl::InvalidArgumentError(
          absl::StrCat("tls_ca: ", server.tls_ca, ": ", error.message()));
    }
    secure.emplace(tcp, tls);
    secure->set_verify_mode(ssl::verify_peer);
    secure->set_verify_callback(ssl::host_name_verification(server.host));
    SSL_set_tlsext_host_name(secure->native_handle(), server.host.c_str());
    error = Await(
        io, [&](auto done) { secure->async_handshake(ssl::stream_base::client, std::move(done)); });
    if (error) return Failed("no TLS with", server, error);
    return absl::OkStatus();
  }

  boost::system::error_code Write(std::string_view bytes) {
    while (!bytes.empty()) {
      size_t written = 0;
      const boost::system::error_code error = OnStream([&](auto& stream, auto done) {
        stream.async_write_some(boost::asio::buffer(bytes), CountInto(&written, done));
      });
      if (error) return error;
      bytes.remove_prefix(written);
    }
    return {};
  }
  // Parses some more of the answer: what has been read, or what comes next. Beast's own operations
  // on a stream do the same and take the compiler half a minute.
  boost::system::error_code Read() {
    boost::system::error_code error = http::error::need_more;
    if (buffer.size() > 0) buffer.consume(parser.put(buffer.data(), error));
    while (error == http::error::need_more) {
      size_t read = 0;
      error = OnStream([&](auto& stream, auto done) {
        stream.async_read_some(buffer.prepare(kReadBytes), CountInto(&read, done));
      });
      if (error == boost::asio::error::eof) return End();
      if (error) return error;
      buffer.commit(read);
      buffer.consume(parser.put(buffer.data(), error));
    }
    return error;
  }
  // The server has closed the connection.
  boost::system::error_code End() {
    boost::system::error_code error = http::error::end_of_stream;
    if (parser.got_some()) parser.put_eof(error);
    return error;
  }

  template <typename Done>
  static auto CountInto(size_t* bytes, Done done) {
    return [bytes, done](boost::system::error_code error, size_t count) {
      *bytes = count;
      done(error);
    };
  }
  // Runs one operation on the stream that is in use.
  template <typename Start>
  boost::system::error_code OnStream(Start start) {
    return Await(io, [&](auto done) {
      if (secure) {
        start(*secure, std::move(done));
      } else {
        start(tcp, std::move(done));
      }
    });
  }
};

}  // namespace

void AddServerSettings(ConfigSchema& schema, ServerSettings* settings, const std::string& what) {
  schema.AddString("url", &settings->url, "Base URL of " + what);
  schema.AddSecret("api_key", &settings->api_key,
                   "API key, where the server asks for one (better in BATON_API_KEY)");
  schema.AddString("tls_ca", &settings->tls_ca,
                   "PEM file of authorities for https (default: the system's)");
}

absl::StatusOr<HttpServerAddress> ServerAddressOf(const ServerSettings& settings) {
  HttpServerAddress server{
      .host = {}, .port = {}, .tls_ca = settings.tls_ca, .api_key = settings.api_key};
  std::string_view rest = settings.url;
  if (rest.starts_with("https://")) {
    server.tls = true;
    rest.remove_prefix(8);
  } else if (rest.starts_with("http://")) {
    rest.remove_prefix(7);
  } else {
    rest = {};
  }
  if (rest.ends_with('/')) rest.remove_suffix(1);
  const size_t colon = rest.rfind(':');
  if (colon == std::string_view::npos || colon == 0 || colon + 1 >= rest.size()) {
    return absl::InvalidArgumentError(
        absl::StrCat("\"", settings.url, "\" is not a URL such as http://127.0.0.1:8000"));
  }
  server.host = rest.substr(0, colon);
  server.port = rest.substr(colon + 1);
  if (server.host.starts_with('[') && server.host.ends_with(']')) {
    server.host = server.host.substr(1, server.host.size() - 2);
  }
  return server;
}

absl::StatusOr<std::string> FetchText(const HttpServerAddress& server, const std::string& path,
                                      absl::Duration timeout) {
  Exchange exchange;
  RETURN_IF_ERROR(
      exchange.Send(server, http::request<http::string_body>(http::verb::get, path, 11), timeout));
  RETURN_IF_ERROR(exchange.Receive(server, [](std::string&) {}));
  if (!exchange.ok()) return exchange.Error();
  return exchange.parser.get().body();
}

absl::Status PostForEvents(const HttpServerAddress& server, const std::string& path,
                           const std::string& json_body, absl::Duration timeout,
                           const std::function<void(std::string_view)>& on_data) {
  http::request<http::string_body> request(http::verb::post, path, 11, json_body);
  request.set(http::field::content_type, "application/json");
  Exchange exchange;
  RETURN_IF_ERROR(exchange.Send(server, std::move(request), timeout));
  EventSplitter events(on_data);
  RETURN_IF_ERROR(exchange.Receive(server, [&](std::string& body) {
    if (!exchange.ok()) return;  // kept for the error
    events.Push(body);
    body.clear();
  }));
  return exchange.ok() ? absl::OkStatus() : exchange.Error();
}

}  // namespace baton
