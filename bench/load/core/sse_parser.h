// Splits a server-sent event stream into the data of its events, whatever the pieces it arrives in.
#pragma once

#include <cstddef>
#include <functional>
#include <string>
#include <string_view>

namespace baton::load {

// Follows the WHATWG specification for the field `data`; other fields and comments are passed over.
// Not thread-safe.
class SseParser {
 public:
  // Gets the data of one event; the view is valid during the call. False: parse no further.
  using Handler = std::function<bool(std::string_view data)>;

  explicit SseParser(Handler handler) : handler_(std::move(handler)) {}

  // False once the handler has said so, or a line or event has passed kLargestEvent.
  bool Push(std::string_view bytes);
  // At the end of the body: hands out an event whose blank line is missing.
  bool Finish();
  bool overflowed() const { return overflowed_; }

  static constexpr size_t kLargestEvent = size_t{4} << 20;

 private:
  bool OnLine(std::string_view line);
  bool Dispatch();
  bool KeepRest(std::string_view rest);

  Handler handler_;
  std::string partial_;        // the beginning of an unfinished line
  std::string data_;           // of the current event, when it cannot stay a view
  std::string_view one_line_;  // of the current event, while it is one line of the bytes in hand
  bool has_data_ = false;
  bool stopped_ = false;
  bool overflowed_ = false;
};

}  // namespace baton::load
