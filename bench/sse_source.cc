// A server that streams tokens at a steady pace and does nothing else: what the load generator is
// measured against. bench/client_overhead.py starts it.
//
//   sse_source [--port 0] [--tokens-per-s 10] [--first-token-ms 50]
//
// Prints `ready PORT`. Answers GET /v1/models, and any POST by a stream of the request's max_tokens
// events, one every 1/tokens-per-s, shaped as Baton shapes them. On SIGTERM prints how late it was
// itself. One thread.
#include <CLI/CLI.hpp>
#include <algorithm>
#include <boost/asio/io_context.hpp>
#include <boost/asio/ip/tcp.hpp>
#include <boost/asio/signal_set.hpp>
#include <boost/asio/steady_timer.hpp>
#include <boost/beast/core/flat_buffer.hpp>
#include <boost/beast/http.hpp>
#include <chrono>
#include <cstdio>
#include <deque>
#include <memory>
#include <nlohmann/json.hpp>
#include <optional>
#include <string>
#include <vector>

namespace {

namespace asio = boost::asio;
namespace http = boost::beast::http;
using asio::ip::tcp;
using Clock = std::chrono::steady_clock;
using ErrorCode = boost::system::error_code;

std::string Chunk(const std::string& data) {
  char size[16];
  std::snprintf(size, sizeof(size), "%zx\r\n", data.size());
  return size + data + "\r\n";
}

std::string Event(int token, int prompt_tokens) {
  return Chunk(R"(data: {"id":"cmpl-0","object":"text_completion","created":0,"model":"source",)"
               R"("choices":[{"index":0,"text":" token","finish_reason":null}],"usage":)"
               R"({"prompt_tokens":)" +
               std::to_string(prompt_tokens) + R"(,"completion_tokens":)" + std::to_string(token) +
               R"(,"total_tokens":)" + std::to_string(prompt_tokens + token) + "}}\n\n");
}

struct Stream {
  std::shared_ptr<class Session> session;  // the other owner is its pending read
  Clock::time_point due;
  int sent = 0;
  int tokens = 0;
};

// Sends each stream's next token when it is due.
class Pacer {
 public:
  Pacer(asio::io_context& io, Clock::duration interval) : timer_(io), interval_(interval) {}

  void Add(Stream stream) {
    Insert(std::move(stream));
    most_streams_ = std::max(most_streams_, queue_.size());
    Arm();
  }

  void Print() {
    std::sort(late_ms_.begin(), late_ms_.end());
    const auto at = [&](double share) {
      const auto last = static_cast<double>(late_ms_.size() - 1);
      return late_ms_.empty() ? 0.0 : late_ms_[static_cast<size_t>(share * last)];
    };
    std::printf("sent %zu tokens, most streams %zu, late p50 %.3f ms, p99 %.3f ms, cut %d\n",
                late_ms_.size(), most_streams_, at(0.5), at(0.99), cut_);
  }

 private:
  void Arm();
  void SendDue();
  // Mostly at the end: all streams wait equally long between tokens.
  void Insert(Stream stream) {
    const auto later = std::upper_bound(
        queue_.begin(), queue_.end(), stream.due,
        [](Clock::time_point due, const Stream& other) { return due < other.due; });
    queue_.insert(later, std::move(stream));
  }

  asio::steady_timer timer_;
  const Clock::duration interval_;
  std::deque<Stream> queue_;  // ascending by due
  std::vector<double> late_ms_;
  size_t most_streams_ = 0;
  int cut_ = 0;  // streams whose reader was so slow that the socket was full
};

// One connection: reads a request, streams the answer, reads the next.
class Session : public std::enable_shared_from_this<Session> {
 public:
  Session(tcp::socket socket, Pacer& pacer, Clock::duration first_token)
      : socket_(std::move(socket)), pacer_(pacer), first_token_(first_token) {
    ErrorCode ignored;
    socket_.set_option(tcp::no_delay(true), ignored);
    socket_.non_blocking(true, ignored);
  }

  void Read() {
    parser_.emplace();
    parser_->body_limit(64u << 20);
    http::async_read(socket_, buffer_, *parser_,
                     [self = shared_from_this()](ErrorCode error, size_t) {
                       if (!error) self->Answer();
                     });
  }

  // False: the peer is gone or does not read.
  bool Write(const std::string& text) {
    ErrorCode error;
    return socket_.write_some(asio::buffer(text), error) == text.size() && !error;
  }

 private:
  void Answer() {
    const auto& request = parser_->get();
    if (request.method() == http::verb::get) {
      const bool models = request.target() == "/v1/models";
      const std::string body =
          models
              ? R"({"object":"list","data":[{"id":"source","object":"model","vocab_size":32000}]})"
              : "{}";
      if (Write(std::string(models ? "HTTP/1.1 200 OK" : "HTTP/1.1 404 Not Found") +
                "\r\nContent-Type: application/json\r\nContent-Length: " +
                std::to_string(body.size()) + "\r\n\r\n" + body)) {
        Read();
      }
      return;
    }
    const auto body = nlohmann::json::parse(request.body(), nullptr, /*allow_exceptions=*/false);
    const int tokens = body.is_object() ? body.value("max_tokens", 16) : 16;
    if (!Write("HTTP/1.1 200 OK\r\nContent-Type: text/event-stream\r\n"
               "Transfer-Encoding: chunked\r\n\r\n")) {
      return;
    }
    pacer_.Add({shared_from_this(), Clock::now() + first_token_, 0, tokens});
  }

  tcp::socket socket_;
  Pacer& pacer_;
  const Clock::duration first_token_;
  boost::beast::flat_buffer buffer_;
  std::optional<http::request_parser<http::string_body>> parser_;
};

void Pacer::Arm() {
  if (queue_.empty()) return;
  timer_.expires_at(queue_.front().due);
  timer_.async_wait([this](ErrorCode error) {
    if (!error) SendDue();
  });
}

void Pacer::SendDue() {
  while (!queue_.empty() && queue_.front().due <= Clock::now()) {
    Stream stream = std::move(queue_.front());
    queue_.pop_front();
    late_ms_.push_back(
        std::chrono::duration<double, std::milli>(Clock::now() - stream.due).count());
    std::string text = Event(++stream.sent, 64);
    const bool last = stream.sent >= stream.tokens;
    if (last) text += Chunk("data: [DONE]\n\n") + "0\r\n\r\n";
    if (!stream.session->Write(text)) {
      ++cut_;
    } else if (last) {
      stream.session->Read();
    } else {
      stream.due += interval_;
      Insert(std::move(stream));
    }
  }
  Arm();
}

class Listener {
 public:
  Listener(asio::io_context& io, uint16_t port, Pacer& pacer, Clock::duration first_token)
      : acceptor_(io, {asio::ip::address_v4::loopback(), port}),
        pacer_(pacer),
        first_token_(first_token) {}

  uint16_t port() const { return acceptor_.local_endpoint().port(); }
  void Accept() {
    acceptor_.async_accept([this](ErrorCode error, tcp::socket socket) {
      if (!error) std::make_shared<Session>(std::move(socket), pacer_, first_token_)->Read();
      Accept();
    });
  }

 private:
  tcp::acceptor acceptor_;
  Pacer& pacer_;
  const Clock::duration first_token_;
};

Clock::duration Seconds(double seconds) {
  return std::chrono::duration_cast<Clock::duration>(std::chrono::duration<double>(seconds));
}

}  // namespace

int main(int argc, char** argv) {
  uint16_t port = 0;
  double tokens_per_s = 10;
  double first_token_ms = 50;
  CLI::App app("Streams tokens at a steady pace, to measure clients against.");
  app.add_option("--port", port, "On 127.0.0.1; 0: any");
  app.add_option("--tokens-per-s", tokens_per_s, "Of each stream")->check(CLI::Range(0.01, 1e6));
  app.add_option("--first-token-ms", first_token_ms)->check(CLI::Range(0.0, 1e6));
  CLI11_PARSE(app, argc, argv);

  asio::io_context io(1);
  Pacer pacer(io, Seconds(1 / tokens_per_s));
  Listener listener(io, port, pacer, Seconds(first_token_ms / 1000));
  listener.Accept();
  asio::signal_set signals(io, SIGTERM, SIGINT);
  signals.async_wait([&](ErrorCode, int) { io.stop(); });
  std::printf("ready %u\n", listener.port());
  std::fflush(stdout);
  io.run();
  pacer.Print();
  return 0;
}
