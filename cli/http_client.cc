#include "cli/http_client.h"

#include <boost/asio/connect.hpp>
#include <boost/asio/io_context.hpp>
#include <boost/asio/ip/tcp.hpp>
#include <boost/beast/core.hpp>
#include <boost/beast/http.hpp>
#include <chrono>
#include <nlohmann/json.hpp>
#include <optional>
#include <utility>

#include "absl/strings/str_cat.h"
#include "common/check.h"
#include "common/strings.h"

namespace baton {
namespace {

namespace beast = boost::beast;
namespace http = beast::http;
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

absl::Status Failed(std::string_view what, const HttpUrl& url, boost::system::error_code error) {
  return absl::UnavailableError(
      absl::StrCat(View(what), " ", url.host, ":", url.port, ": ", error.message()));
}

constexpr std::uint64_t kMaxBodyBytes = std::uint64_t{64} << 20;

// One request on a connection of its own, up to the answer's header.
struct Exchange {
  Exchange() { parser.body_limit(kMaxBodyBytes); }

  absl::Status Send(const HttpUrl& url, http::request<http::string_body> request,
                    absl::Duration timeout) {
    boost::system::error_code error;
    const auto endpoints = tcp::resolver(io).resolve(url.host, url.port, error);
    if (error) return Failed("cannot resolve", url, error);
    stream.expires_after(absl::ToChronoMilliseconds(timeout));
    error = Await(io, [&](auto done) { stream.async_connect(endpoints, std::move(done)); });
    if (error) return Failed("cannot connect to", url, error);
    request.set(http::field::host, url.host);
    request.prepare_payload();
    error = Await(io, [&](auto done) { http::async_write(stream, request, std::move(done)); });
    if (error) return Failed("cannot send to", url, error);
    error = Await(
        io, [&](auto done) { http::async_read_header(stream, buffer, parser, std::move(done)); });
    if (error) return Failed("no answer from", url, error);
    return absl::OkStatus();
  }
  // Reads on to the end; `on_piece` sees the parser's body grow and may take it away.
  absl::Status Receive(const HttpUrl& url, const std::function<void(std::string&)>& on_piece) {
    while (!parser.is_done()) {
      const boost::system::error_code error = Await(
          io, [&](auto done) { http::async_read_some(stream, buffer, parser, std::move(done)); });
      if (error && error != http::error::need_buffer) {
        return Failed("answer cut off by", url, error);
      }
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
  beast::tcp_stream stream{io};
  beast::flat_buffer buffer;
  http::response_parser<http::string_body> parser;
};

}  // namespace

absl::StatusOr<HttpUrl> ParseHttpUrl(const std::string& url) {
  constexpr std::string_view kScheme = "http://";
  const size_t colon = url.rfind(':');
  if (!url.starts_with(kScheme) || colon < kScheme.size() || colon + 1 >= url.size()) {
    return absl::InvalidArgumentError(
        absl::StrCat("\"", url, "\" is not a URL such as http://127.0.0.1:8000"));
  }
  std::string port = url.substr(colon + 1);
  if (port.ends_with('/')) port.pop_back();
  return HttpUrl{.host = url.substr(kScheme.size(), colon - kScheme.size()), .port = port};
}

absl::StatusOr<std::string> FetchText(const HttpUrl& url, const std::string& path,
                                      absl::Duration timeout) {
  Exchange exchange;
  RETURN_IF_ERROR(
      exchange.Send(url, http::request<http::string_body>(http::verb::get, path, 11), timeout));
  RETURN_IF_ERROR(exchange.Receive(url, [](std::string&) {}));
  if (!exchange.ok()) return exchange.Error();
  return exchange.parser.get().body();
}

absl::Status PostForEvents(const HttpUrl& url, const std::string& path,
                           const std::string& json_body, absl::Duration timeout,
                           const std::function<void(std::string_view)>& on_data) {
  http::request<http::string_body> request(http::verb::post, path, 11, json_body);
  request.set(http::field::content_type, "application/json");
  Exchange exchange;
  RETURN_IF_ERROR(exchange.Send(url, std::move(request), timeout));
  EventSplitter events(on_data);
  RETURN_IF_ERROR(exchange.Receive(url, [&](std::string& body) {
    if (!exchange.ok()) return;  // kept for the error
    events.Push(body);
    body.clear();
  }));
  return exchange.ok() ? absl::OkStatus() : exchange.Error();
}

}  // namespace baton
