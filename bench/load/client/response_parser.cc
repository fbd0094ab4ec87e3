#include "bench/load/client/response_parser.h"

#include <boost/asio/buffer.hpp>
#include <boost/beast/http/basic_parser.hpp>
#include <boost/beast/http/error.hpp>
#include <limits>
#include <utility>

#include "absl/strings/ascii.h"

namespace baton::load {

namespace http = boost::beast::http;
using boost::beast::string_view;
using ErrorCode = boost::beast::error_code;

// What a chunked body ends with: "0\r\n\r\n". Behind "0\r\n" Beast 1.74 asserts that it has all
// five bytes, and ends the process when it is given the fourth alone.
constexpr size_t kLastChunkBytes = 5;

class ResponseParser::Impl final : public http::basic_parser</*isRequest=*/false> {
 public:
  explicit Impl(ResponseParser* owner) : owner_(owner) {
    eager(false);  // the body's framing is known before its first byte is looked at
    // Nothing is stored, so any length will do; 1.74 takes boost::none for a limit of zero.
    body_limit(std::numeric_limits<std::uint64_t>::max());
    header_limit(64u << 10);
  }

  // Between two chunks of a body, or before the first.
  bool BeforeChunk() const { return chunked() && chunk_left_bytes_ == 0; }

 private:
  void on_request_impl(http::verb, string_view, string_view, int, ErrorCode&) override {}
  void on_response_impl(int code, string_view, int, ErrorCode&) override {
    owner_->head_.status = code;
  }
  void on_field_impl(http::field name, string_view, string_view value, ErrorCode&) override {
    if (name == http::field::content_type) {
      owner_->head_.content_type =
          absl::AsciiStrToLower(absl::string_view(value.data(), value.size()));
    }
  }
  void on_header_impl(ErrorCode&) override {
    owner_->head_.keep_alive = keep_alive();
    owner_->handlers_.on_head(owner_->head_);
  }
  void on_body_init_impl(const boost::optional<std::uint64_t>&, ErrorCode&) override {}
  std::size_t on_body_impl(string_view body, ErrorCode&) override {
    owner_->handlers_.on_body({body.data(), body.size()});
    return body.size();
  }
  void on_chunk_header_impl(std::uint64_t size, string_view, ErrorCode&) override {
    chunk_left_bytes_ = size;
  }
  std::size_t on_chunk_body_impl(std::uint64_t left, string_view body, ErrorCode&) override {
    owner_->handlers_.on_body({body.data(), body.size()});
    chunk_left_bytes_ = left - body.size();
    return body.size();
  }
  void on_finish_impl(ErrorCode&) override {}

  ResponseParser* owner_;
  std::uint64_t chunk_left_bytes_ = 0;
};

ResponseParser::ResponseParser(Handlers handlers)
    : handlers_(std::move(handlers)), impl_(std::make_unique<Impl>(this)) {}

ResponseParser::~ResponseParser() = default;

bool ResponseParser::Push(std::string_view bytes) {
  started_ = started_ || !bytes.empty();
  std::string joined;
  if (!rest_.empty()) {
    joined = std::exchange(rest_, {});
    joined.append(bytes);
    bytes = joined;
  }
  while (!bytes.empty() && !impl_->is_done()) {
    if (impl_->is_header_done()) {
      impl_->eager(true);
      const bool may_be_last_chunk = impl_->BeforeChunk() && bytes.starts_with('0');
      if (may_be_last_chunk && bytes.size() < kLastChunkBytes) {
        rest_.assign(bytes);
        return true;
      }
    }
    ErrorCode error;
    const size_t used = impl_->put(boost::asio::buffer(bytes.data(), bytes.size()), error);
    bytes.remove_prefix(used);
    if (error == http::error::need_more) {
      rest_.assign(bytes);
      return true;
    }
    if (error) {
      error_ = error.message();
      return false;
    }
  }
  return true;
}

bool ResponseParser::PushEnd() {
  if (!started_ || impl_->is_done()) return impl_->is_done();
  ErrorCode error;
  impl_->put_eof(error);
  return !error && impl_->is_done();
}

bool ResponseParser::done() const { return impl_->is_done(); }

}  // namespace baton::load
