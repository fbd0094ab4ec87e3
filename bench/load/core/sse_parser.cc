#include "bench/load/core/sse_parser.h"

#include <utility>

namespace baton::load {

bool SseParser::Push(std::string_view bytes) {
  while (!stopped_) {
    const size_t end = bytes.find('\n');
    if (end == std::string_view::npos) return KeepRest(bytes);
    std::string_view line = bytes.substr(0, end);
    bytes.remove_prefix(end + 1);
    if (partial_.empty()) {
      if (!OnLine(line)) return false;
      continue;
    }
    partial_.append(line);
    const std::string whole = std::exchange(partial_, {});
    const bool go_on = OnLine(whole);
    // `whole` is about to go: an event that began in it must own its bytes.
    if (has_data_ && data_.empty()) data_.assign(std::exchange(one_line_, {}));
    if (!go_on) return false;
  }
  return false;
}

bool SseParser::KeepRest(std::string_view rest) {
  partial_.append(rest);
  if (has_data_ && data_.empty()) data_.assign(std::exchange(one_line_, {}));
  if (partial_.size() + data_.size() <= kLargestEvent) return true;
  overflowed_ = stopped_ = true;
  return false;
}

bool SseParser::OnLine(std::string_view line) {
  if (line.ends_with('\r')) line.remove_suffix(1);
  if (line.empty()) return Dispatch();
  if (!line.starts_with("data:")) return true;
  line.remove_prefix(5);
  if (line.starts_with(' ')) line.remove_prefix(1);
  if (!has_data_) {
    has_data_ = true;
    one_line_ = line;
    return true;
  }
  if (data_.empty()) data_.assign(std::exchange(one_line_, {}));
  data_ += '\n';
  data_.append(line);
  if (data_.size() <= kLargestEvent) return true;
  overflowed_ = stopped_ = true;
  return false;
}

bool SseParser::Dispatch() {
  if (!has_data_) return true;
  has_data_ = false;
  const std::string owned = std::exchange(data_, {});
  const std::string_view view = std::exchange(one_line_, {});
  if (!handler_(owned.empty() ? view : std::string_view(owned))) stopped_ = true;
  return !stopped_;
}

bool SseParser::Finish() {
  if (stopped_) return false;
  if (!partial_.empty()) {
    const std::string last = std::exchange(partial_, {});
    if (!OnLine(last)) return false;
    return Dispatch();
  }
  return Dispatch();
}

}  // namespace baton::load
