#include "router/http/request_reader.h"

#include <algorithm>
#include <boost/asio/buffer.hpp>
#include <boost/beast/core/buffers_range.hpp>
#include <boost/beast/core/string.hpp>
#include <boost/beast/http/parser.hpp>
#include <iterator>
#include <utility>

#include "absl/strings/str_cat.h"

namespace baton {
namespace {

namespace beast = boost::beast;
namespace http = beast::http;

// A chunked body's framing that makes no progress within this many bytes is refused.
constexpr size_t kMaxUnparsedBytes = 64u << 10;
// What a chunked body ends with: "0\r\n\r\n". Behind "0\r\n" Beast 1.74 asserts that it has all
// five bytes, and ends the process when it is given the fourth alone.
constexpr size_t kLastChunkBytes = 5;

std::string Copy(beast::string_view text) { return {text.data(), text.size()}; }

// Beast's string_body sets aside what Content-Length claims: memory for bytes that may never come.
struct GrowingBody {
  using value_type = std::string;

  class reader {  // Beast's name
   public:
    template <bool is_request, class Fields>
    reader(http::header<is_request, Fields>&, value_type& body) : body_(body) {}
    void init(const boost::optional<std::uint64_t>&, boost::system::error_code& error) {
      error = {};
    }
    template <class Buffers>
    size_t put(const Buffers& buffers, boost::system::error_code& error) {
      error = {};
      size_t added = 0;
      for (const boost::asio::const_buffer bytes : beast::buffers_range_ref(buffers)) {
        body_.append(static_cast<const char*>(bytes.data()), bytes.size());
        added += bytes.size();
      }
      return added;
    }
    void finish(boost::system::error_code& error) { error = {}; }

   private:
    value_type& body_;
  };
};

}  // namespace

struct RequestReader::Parser {
  http::request_parser<GrowingBody> beast;
};

RequestReader::RequestReader(const ReaderLimits& limits) : limits_(limits) {}
RequestReader::~RequestReader() = default;

void RequestReader::Reset() {
  parser_.reset();
  head_reported_ = false;
  expects_continue_ = false;
  request_ = HttpRequest{};
}

RequestReader::Step RequestReader::Feed(std::string& input) {
  if (!parser_) {
    parser_ = std::make_unique<Parser>();
    parser_->beast.header_limit(limits_.max_header_bytes);
    parser_->beast.body_limit(limits_.max_body_bytes);
    parser_->beast.eager(false);  // stop behind the head: it is judged before the body is read
  }
  auto& parser = parser_->beast;
  while (!parser.is_done()) {
    if (parser.is_header_done() && !head_reported_) return FinishHead();
    const bool may_be_last_chunk = head_reported_ && parser.chunked() && input.starts_with('0');
    if (input.size() < (may_be_last_chunk ? kLastChunkBytes : 1)) return Step::kNeedMore;
    boost::system::error_code error;
    const size_t used = parser.put(boost::asio::buffer(input), error);
    input.erase(0, used);
    if (error == http::error::need_more) {
      if (input.size() > limits_.max_header_bytes + kMaxUnparsedBytes) {
        return Fail(400, "the request's framing is malformed");
      }
      // Progress without a complete element: the rest may already be here.
      if (used > 0 && !input.empty()) continue;
      return Step::kNeedMore;
    }
    if (!error && used == 0 && head_reported_ && !parser.is_done()) return Step::kNeedMore;
    if (error == http::error::header_limit) {
      return Fail(431, absl::StrCat("the request's head is larger than ", limits_.max_header_bytes,
                                    " bytes"));
    }
    if (error == http::error::body_limit) {
      return Fail(413, absl::StrCat("the body is larger than ", limits_.max_body_bytes, " bytes"));
    }
    if (error == http::error::bad_version) return Fail(505, "only HTTP/1.0 and 1.1 are served");
    if (error) return Fail(400, absl::StrCat("malformed HTTP request: ", error.message()));
  }
  if (!head_reported_) return FinishHead();
  request_.body = std::move(parser.get().body());
  return Step::kDone;
}

RequestReader::Step RequestReader::FinishHead() {
  auto& parser = parser_->beast;
  const auto& message = parser.get();
  const auto count = static_cast<size_t>(std::distance(message.begin(), message.end()));
  if (count > limits_.max_header_count) {
    return Fail(431, absl::StrCat("the request has ", count, " header fields; at most ",
                                  limits_.max_header_count, " are allowed"));
  }
  // Both lengths at once is how requests are smuggled past proxies (RFC 9112, section 6.1).
  if (message.find(http::field::content_length) != message.end() &&
      message.find(http::field::transfer_encoding) != message.end()) {
    return Fail(400, "the request has both Content-Length and Transfer-Encoding");
  }
  request_.method = Copy(message.method_string());
  request_.path = Copy(message.target());
  request_.path.resize(std::min(request_.path.find('?'), request_.path.size()));
  request_.keep_alive = message.keep_alive();
  request_.chunked_ok = message.version() >= 11;
  request_.request_id = Copy(message["x-request-id"]);
  request_.slo_class = Copy(message["x-slo-class"]);
  request_.authorization = Copy(message[http::field::authorization]);
  const auto expect = message[http::field::expect];
  if (!expect.empty() && !beast::iequals(expect, "100-continue")) {
    return Fail(417, "the only expectation that is met is 100-continue");
  }
  expects_continue_ = !expect.empty() && !parser.is_done();
  head_reported_ = true;
  parser.eager(true);
  return Step::kHead;
}

size_t RequestReader::body_capacity() const {
  return parser_ == nullptr ? 0 : parser_->beast.get().body().capacity();
}

HttpRequest RequestReader::Take() { return std::move(request_); }

RequestReader::Step RequestReader::Fail(int status, std::string message) {
  error_ = ApiError{.http_status = status,
                    .message = std::move(message),
                    .type = "invalid_request_error",
                    .code = status == 413 ? "body_too_large" : ""};
  return Step::kError;
}

}  // namespace baton
