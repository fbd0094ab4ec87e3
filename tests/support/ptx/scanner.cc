#include "tests/support/ptx/scanner.h"

#include <algorithm>
#include <cctype>

namespace baton::ptx {

std::vector<std::string_view> SplitAtCommas(std::string_view text) {
  std::vector<std::string_view> parts;
  if (Trimmed(text).empty()) return parts;
  int depth = 0;
  size_t begin = 0;
  for (size_t i = 0; i < text.size(); ++i) {
    if (text[i] == '{' || text[i] == '[' || text[i] == '(') ++depth;
    if (text[i] == '}' || text[i] == ']' || text[i] == ')') --depth;
    if (text[i] != ',' || depth > 0) continue;
    parts.push_back(Trimmed(text.substr(begin, i - begin)));
    begin = i + 1;
  }
  parts.push_back(Trimmed(text.substr(begin)));
  return parts;
}

std::vector<std::string_view> Words(std::string_view text) {
  std::vector<std::string_view> words;
  for (text = Trimmed(text); !text.empty(); text = Trimmed(text)) {
    const size_t length = std::min(text.find_first_of(" \t\r\n"), text.size());
    words.push_back(text.substr(0, length));
    text.remove_prefix(length);
  }
  return words;
}

bool Scanner::HasMore() {
  while (at_ < text_.size()) {
    if (std::isspace(static_cast<unsigned char>(text_[at_])) != 0) {
      ++at_;
    } else if (NextIs("//")) {
      ReadLine();
    } else {
      return true;
    }
  }
  return false;
}

bool Scanner::Take(std::string_view expected) {
  if (!NextIs(expected)) return false;
  at_ += expected.size();
  return true;
}

std::string_view Scanner::ReadUntil(std::string_view ends) {
  const size_t end = text_.find_first_of(ends, at_);
  if (end == std::string_view::npos) throw SyntaxError("the module ends within a statement");
  const std::string_view statement = text_.substr(at_, end - at_);
  at_ = text_[end] == '{' || text_[end] == '}' ? end : end + 1;
  return Trimmed(statement);
}

std::string_view Scanner::ReadLine() {
  const size_t end = std::min(text_.find('\n', at_), text_.size());
  const std::string_view line = Trimmed(text_.substr(at_, end - at_));
  at_ = end;
  return line;
}

std::string_view Scanner::TakeLabel() {
  size_t end = at_;
  while (end < text_.size() && (std::isalnum(static_cast<unsigned char>(text_[end])) != 0 ||
                                text_[end] == '_' || text_[end] == '$')) {
    ++end;
  }
  if (end == at_ || end >= text_.size() || text_[end] != ':') return {};
  const std::string_view label = text_.substr(at_, end - at_);
  at_ = end + 1;
  return label;
}

size_t Scanner::LineNumber() const {
  return 1 + static_cast<size_t>(
                 std::count(text_.begin(), text_.begin() + static_cast<ptrdiff_t>(at_), '\n'));
}

}  // namespace baton::ptx
