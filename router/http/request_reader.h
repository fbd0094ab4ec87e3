// Turns bytes into HTTP/1.1 requests. Pure; Boost.Beast's parser does the work.
#pragma once

#include <cstdint>
#include <memory>
#include <string>

#include "router/http/http_message.h"

namespace baton {

struct ReaderLimits {
  uint64_t max_body_bytes = 8u << 20;
  uint32_t max_header_bytes = 16u << 10;
  size_t max_header_count = 100;
};

// One request at a time; not thread-safe. After kDone take the request and Reset. After kError the
// stream's framing is lost: answer and close.
class RequestReader {
 public:
  enum class Step {
    kNeedMore,
    kHead,  // the head is complete; reported once. Feed again to go on with the body.
    kDone,
    kError,
  };

  explicit RequestReader(const ReaderLimits& limits);
  ~RequestReader();

  // Consumes bytes from the front of `input`.
  Step Feed(std::string& input);

  // Valid from kHead on; without the body.
  const HttpRequest& head() const { return request_; }
  // The client waits for "100 Continue" before it sends the body.
  bool expects_continue() const { return expects_continue_; }
  // What is set aside for the body that is being read.
  size_t body_capacity() const;
  // Valid after kDone: with the body.
  HttpRequest Take();
  // Valid after kError.
  const ApiError& error() const { return error_; }

  // Ready for the next request, holding no memory for it yet.
  void Reset();

 private:
  struct Parser;

  Step Fail(int status, std::string message);
  Step FinishHead();

  const ReaderLimits limits_;
  std::unique_ptr<Parser> parser_;
  bool head_reported_ = false;
  bool expects_continue_ = false;
  HttpRequest request_;
  ApiError error_;
};

}  // namespace baton
