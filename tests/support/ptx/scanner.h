// The statements of a module in PTX, one after another.
#pragma once

#include <cstddef>
#include <stdexcept>
#include <string>
#include <string_view>
#include <vector>

namespace baton::ptx {

struct SyntaxError : std::runtime_error {
  using std::runtime_error::runtime_error;
};

inline std::string_view Trimmed(std::string_view text) {
  constexpr std::string_view kSpace = " \t\r\n";
  const size_t begin = text.find_first_not_of(kSpace);
  if (begin == std::string_view::npos) return {};
  return text.substr(begin, text.find_last_not_of(kSpace) - begin + 1);
}

// Splits at commas outside of brackets of any kind; none where there is nothing.
std::vector<std::string_view> SplitAtCommas(std::string_view text);

// The words of it.
std::vector<std::string_view> Words(std::string_view text);

class Scanner {
 public:
  explicit Scanner(std::string_view text) : text_(text) {}

  // Passes over space and comments; then false at the end.
  bool HasMore();
  // Passes over `expected`, if that comes next.
  bool Take(std::string_view expected);
  bool NextIs(std::string_view expected) const { return text_.substr(at_).starts_with(expected); }
  // What comes before the next of `ends`, which is passed over, too, but for a brace.
  std::string_view ReadUntil(std::string_view ends);
  std::string_view ReadLine();
  // Empty: no label comes next.
  std::string_view TakeLabel();
  size_t LineNumber() const;

 private:
  std::string_view text_;
  size_t at_ = 0;
};

}  // namespace baton::ptx
