#include "engine/tokenizer/jinja/lexer.h"

#include <algorithm>
#include <charconv>
#include <cstdlib>
#include <utility>

#include "absl/status/status.h"
#include "absl/strings/str_cat.h"
#include "common/check.h"
#include "common/strings.h"
#include "engine/tokenizer/jinja/text.h"
#include "engine/tokenizer/unicode/utf8.h"

namespace baton::jinja {
namespace {

bool IsDigit(char c) { return c >= '0' && c <= '9'; }
bool IsNameByte(char c) {
  return IsDigit(c) || (c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z') || c == '_' ||
         static_cast<unsigned char>(c) >= 0x80;
}

// Every line end becomes "\n", and one at the very end is dropped.
std::string NormalizeNewlines(std::string_view source) {
  std::string out;
  out.reserve(source.size());
  for (size_t i = 0; i < source.size(); ++i) {
    if (source[i] != '\r') {
      out.push_back(source[i]);
      continue;
    }
    out.push_back('\n');
    if (i + 1 < source.size() && source[i + 1] == '\n') ++i;
  }
  if (out.ends_with('\n')) out.pop_back();
  return out;
}

class Lexer {
 public:
  explicit Lexer(std::string source) : source_(std::move(source)) {}

  absl::StatusOr<std::vector<Token>> Run();

 private:
  enum class Tag { kVariable, kBlock, kComment };

  bool At(std::string_view text) const {
    return std::string_view(source_).substr(pos_).starts_with(text);
  }
  void Advance(size_t bytes) {
    line_ += static_cast<int32_t>(std::count(source_.begin() + static_cast<ptrdiff_t>(pos_),
                                             source_.begin() + static_cast<ptrdiff_t>(pos_ + bytes),
                                             '\n'));
    pos_ += bytes;
  }
  void SkipSpace() { Advance(SpacePrefixBytes(std::string_view(source_).substr(pos_))); }
  void Add(TokenKind kind, std::string text = "") {
    tokens_.push_back({kind, line_, std::move(text), 0, 0.0});
  }

  size_t FindTag(size_t from) const;
  void EmitText(size_t end, char sign, Tag tag);
  // After a block or comment tag's end marker of two bytes, at pos_.
  void EndBlockTag(char sign);
  absl::Status LexComment();
  absl::StatusOr<bool> LexRaw();
  absl::Status LexTag(Tag tag);
  bool TryTagEnd(Tag tag);
  absl::Status LexToken();
  absl::Status LexString(char quote);
  absl::Status LexNumber();
  absl::Status LexOperator();

  std::string source_;
  size_t pos_ = 0;
  int32_t line_ = 1;
  bool line_starting_ = true;   // the text from pos_ on begins a line
  std::vector<char> brackets_;  // the closing brackets that are awaited
  std::vector<Token> tokens_;
};

size_t Lexer::FindTag(size_t from) const {
  for (size_t at = source_.find('{', from); at != std::string::npos;
       at = source_.find('{', at + 1)) {
    const char next = at + 1 < source_.size() ? source_[at + 1] : '\0';
    if (next == '{' || next == '%' || next == '#') return at;
  }
  return std::string::npos;
}

// Emits [pos_, end), which a tag with `sign` follows.
void Lexer::EmitText(size_t end, char sign, Tag tag) {
  std::string_view text = std::string_view(source_).substr(pos_, end - pos_);
  if (sign == '-') {
    text = StripRight(text);
  } else if (sign != '+' && tag != Tag::kVariable) {
    const size_t newline = text.rfind('\n');
    const size_t line_begin = newline == std::string_view::npos ? 0 : newline + 1;
    if ((line_begin > 0 || line_starting_) && StripRight(text.substr(line_begin)).empty()) {
      text = text.substr(0, line_begin);
    }
  }
  if (!text.empty()) Add(TokenKind::kText, std::string(text));
  Advance(end - pos_);
}

void Lexer::EndBlockTag(char sign) {
  Advance(2);
  const size_t begin = pos_;
  if (sign == '-') {
    SkipSpace();
  } else if (sign != '+' && At("\n")) {
    Advance(1);
  }
  line_starting_ = pos_ > begin && source_[pos_ - 1] == '\n';
}

absl::StatusOr<std::vector<Token>> Lexer::Run() {
  while (pos_ < source_.size()) {
    const size_t begin = FindTag(pos_);
    if (begin == std::string::npos) {
      EmitText(source_.size(), '+', Tag::kVariable);
      break;
    }
    const char mark = source_[begin + 1];
    const Tag tag = mark == '{' ? Tag::kVariable : mark == '%' ? Tag::kBlock : Tag::kComment;
    const char sign = begin + 2 < source_.size() ? source_[begin + 2] : '\0';
    const bool has_sign = sign == '-' || sign == '+';
    EmitText(begin, sign, tag);
    if (tag == Tag::kBlock) {
      ASSIGN_OR_RETURN(const bool was_raw, LexRaw());
      if (was_raw) continue;
    }
    Advance(has_sign ? 3 : 2);
    RETURN_IF_ERROR(tag == Tag::kComment ? LexComment() : LexTag(tag));
  }
  Add(TokenKind::kEnd);
  return std::move(tokens_);
}

absl::Status Lexer::LexComment() {
  const size_t end = source_.find("#}", pos_);
  if (end == std::string::npos) return ErrorAt(line_, "a comment does not end");
  const char sign = end > pos_ ? source_[end - 1] : '\0';
  Advance(end - pos_);
  EndBlockTag(sign);
  return absl::OkStatus();
}

// {% raw %} … {% endraw %}: the text between is not looked at. False when there is none at pos_.
absl::StatusOr<bool> Lexer::LexRaw() {
  // Matches "{%", a sign, `name`, "%}" at `at`; returns the bytes up to "%}" or its sign, or 0.
  const auto match = [this](size_t at, std::string_view name) -> size_t {
    size_t i = at + 2;
    if (i < source_.size() && (source_[i] == '-' || source_[i] == '+')) ++i;
    i += SpacePrefixBytes(std::string_view(source_).substr(std::min(i, source_.size())));
    if (!std::string_view(source_).substr(std::min(i, source_.size())).starts_with(name)) return 0;
    i += name.size();
    i += SpacePrefixBytes(std::string_view(source_).substr(i));
    const std::string_view rest = std::string_view(source_).substr(i);
    const bool ends = rest.starts_with("%}") || rest.starts_with("-%}") ||
                      (name == "endraw" && rest.starts_with("+%}"));
    return ends ? i - at : 0;
  };
  const size_t head = match(pos_, "raw");
  if (head == 0) return false;
  const int32_t begin_line = line_;
  Advance(head);
  const bool strip = At("-");
  Advance(strip ? 3 : 2);
  if (strip) SkipSpace();
  line_starting_ = source_[pos_ - 1] == '\n';
  for (size_t at = source_.find("{%", pos_); at != std::string::npos;
       at = source_.find("{%", at + 2)) {
    const size_t tail = match(at, "endraw");
    if (tail == 0) continue;
    EmitText(at, source_[at + 2], Tag::kBlock);
    Advance(tail);
    const char sign = source_[pos_];
    if (sign != '%') Advance(1);
    EndBlockTag(sign);
    return true;
  }
  return ErrorAt(begin_line, "a raw block does not end");
}

bool Lexer::TryTagEnd(Tag tag) {
  if (!brackets_.empty()) return false;
  const char sign = source_[pos_] == '-' || source_[pos_] == '+' ? source_[pos_] : '\0';
  if (tag == Tag::kBlock) {
    if (!std::string_view(source_).substr(pos_ + (sign != '\0')).starts_with("%}")) return false;
    Add(TokenKind::kBlockEnd);
    if (sign != '\0') Advance(1);
    EndBlockTag(sign);
    return true;
  }
  if (sign == '+' || !std::string_view(source_).substr(pos_ + (sign != '\0')).starts_with("}}")) {
    return false;
  }
  Add(TokenKind::kVariableEnd);
  const size_t marker = sign == '\0' ? 2 : 3;
  Advance(marker);
  const size_t begin = pos_;
  if (sign == '-') SkipSpace();
  line_starting_ = pos_ > begin && source_[pos_ - 1] == '\n';
  return true;
}

absl::Status Lexer::LexTag(Tag tag) {
  const int32_t begin_line = line_;
  Add(tag == Tag::kBlock ? TokenKind::kBlockBegin : TokenKind::kVariableBegin);
  while (true) {
    SkipSpace();
    if (pos_ >= source_.size()) return ErrorAt(begin_line, "a tag does not end");
    if (TryTagEnd(tag)) return absl::OkStatus();
    RETURN_IF_ERROR(LexToken());
  }
}

absl::Status Lexer::LexToken() {
  const char c = source_[pos_];
  if (IsDigit(c)) return LexNumber();
  if (c == '\'' || c == '"') return LexString(c);
  if (!IsNameByte(c)) return LexOperator();
  size_t end = pos_;
  while (end < source_.size() && IsNameByte(source_[end])) ++end;
  Add(TokenKind::kName, source_.substr(pos_, end - pos_));
  Advance(end - pos_);
  return absl::OkStatus();
}

absl::Status Lexer::LexString(char quote) {
  size_t end = pos_ + 1;
  while (end < source_.size() && source_[end] != quote) end += source_[end] == '\\' ? 2 : 1;
  if (end >= source_.size()) return ErrorAt(line_, "a string does not end");
  absl::StatusOr<std::string> text =
      UnescapePython(std::string_view(source_).substr(pos_ + 1, end - pos_ - 1));
  if (!text.ok()) return ErrorAt(line_, View(text.status().message()));
  Add(TokenKind::kString, *std::move(text));
  Advance(end + 1 - pos_);
  return absl::OkStatus();
}

// Decimal integers and floats, with "_" between digits. After a dot (x.0) only an integer.
absl::Status Lexer::LexNumber() {
  const bool after_dot = pos_ > 0 && source_[pos_ - 1] == '.';
  std::string digits;
  size_t end = pos_;
  const auto take_digits = [&] {
    for (; end < source_.size() && (IsDigit(source_[end]) || source_[end] == '_'); ++end) {
      if (source_[end] != '_') digits.push_back(source_[end]);
    }
  };
  const auto digit_at = [&](size_t at) { return at < source_.size() && IsDigit(source_[at]); };
  take_digits();
  bool is_float = false;
  if (!after_dot && end < source_.size() && source_[end] == '.' && digit_at(end + 1)) {
    is_float = true;
    digits.push_back(source_[end++]);
    take_digits();
  }
  if (!after_dot && end < source_.size() && (source_[end] == 'e' || source_[end] == 'E')) {
    const bool has_sign =
        end + 1 < source_.size() && (source_[end + 1] == '+' || source_[end + 1] == '-');
    if (digit_at(end + (has_sign ? 2 : 1))) {
      is_float = true;
      digits.append(source_, end, has_sign ? 2 : 1);
      end += has_sign ? 2 : 1;
      take_digits();
    }
  }
  if (end < source_.size() && IsNameByte(source_[end])) {
    return ErrorAt(line_, "a number of this form is not supported");
  }
  Add(is_float ? TokenKind::kFloat : TokenKind::kInteger, source_.substr(pos_, end - pos_));
  Token& token = tokens_.back();
  const char* last = digits.data() + digits.size();
  const std::errc error = is_float ? std::from_chars(digits.data(), last, token.number).ec
                                   : std::from_chars(digits.data(), last, token.integer).ec;
  if (error != std::errc()) return ErrorAt(line_, "a number is out of range");
  Advance(end - pos_);
  return absl::OkStatus();
}

absl::Status Lexer::LexOperator() {
  static constexpr std::string_view kOperators[] = {
      "**", "//", "==", "!=", ">=", "<=", "+", "-", "/", "*", "%", "~", "[",
      "]",  "(",  ")",  "{",  "}",  ">",  "<", "=", ".", ":", "|", ","};
  for (const std::string_view op : kOperators) {
    if (!At(op)) continue;
    const char c = op[0];
    if (c == '(' || c == '[' || c == '{') {
      brackets_.push_back(c == '(' ? ')' : c == '[' ? ']' : '}');
    } else if (c == ')' || c == ']' || c == '}') {
      if (brackets_.empty() || brackets_.back() != c) {
        return ErrorAt(line_, absl::StrCat("unexpected \"", View(op), "\""));
      }
      brackets_.pop_back();
    }
    Add(TokenKind::kOperator, std::string(op));
    Advance(op.size());
    return absl::OkStatus();
  }
  return ErrorAt(line_, absl::StrCat("unexpected character \"", source_.substr(pos_, 1), "\""));
}

}  // namespace

absl::Status ErrorAt(int32_t line, std::string_view message) {
  return absl::InvalidArgumentError(absl::StrCat("chat template line ", line, ": ", View(message)));
}

absl::StatusOr<std::vector<Token>> Tokenize(std::string_view source) {
  return Lexer(NormalizeNewlines(source)).Run();
}

}  // namespace baton::jinja
