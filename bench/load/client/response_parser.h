// One HTTP/1.x answer, parsed as its bytes arrive; Boost.Beast behind a plain interface.
#pragma once

#include <cstddef>
#include <functional>
#include <memory>
#include <string>
#include <string_view>

namespace baton::load {

struct ResponseHead {
  int status = 0;
  std::string content_type;  // lower case
  bool keep_alive = false;
};

// Not thread-safe. Bodies are handed on, never stored.
class ResponseParser {
 public:
  struct Handlers {
    std::function<void(const ResponseHead&)> on_head;
    std::function<void(std::string_view)> on_body;  // the view is valid during the call
  };

  // Waits for a new answer.
  explicit ResponseParser(Handlers handlers);
  ~ResponseParser();

  // False: this is not HTTP, see error(). Bytes behind the answer's end are dropped.
  bool Push(std::string_view bytes);
  // The peer has closed. True: that ends the answer in good order (a body without a length).
  bool PushEnd();
  bool done() const;
  bool started() const { return started_; }  // any byte has come
  const ResponseHead& head() const { return head_; }
  const std::string& error() const { return error_; }

 private:
  class Impl;
  Handlers handlers_;
  ResponseHead head_;
  std::string rest_;  // bytes that the parser will not take without more
  std::string error_;
  bool started_ = false;
  std::unique_ptr<Impl> impl_;
};

}  // namespace baton::load
