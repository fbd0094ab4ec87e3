#include "bench/load/core/json_cursor.h"

#include <charconv>

namespace baton::load {
namespace {

constexpr int kDeepest = 100;

bool IsDigit(char c) { return c >= '0' && c <= '9'; }
bool IsHex(char c) { return IsDigit(c) || (c >= 'a' && c <= 'f') || (c >= 'A' && c <= 'F'); }

}  // namespace

char JsonCursor::Peek() {
  while (at_ < text_.size()) {
    const char c = text_[at_];
    if (c != ' ' && c != '\n' && c != '\r' && c != '\t') return c;
    ++at_;
  }
  return 0;
}

bool JsonCursor::Fail() {
  failed_ = true;
  return false;
}

bool JsonCursor::Enter(char open) {
  if (failed_ || Peek() != open) return false;
  ++at_;
  if (++depth_ > kDeepest) return Fail();
  first_ = true;
  return true;
}

bool JsonCursor::EnterObject() { return Enter('{'); }
bool JsonCursor::EnterArray() { return Enter('['); }

// Consumes what stands before a member: nothing before the first, a comma before the others.
bool JsonCursor::Separated(char close, bool* more) {
  *more = false;
  if (failed_) return false;
  const char c = Peek();
  if (c == close) {
    ++at_;
    --depth_;
    first_ = false;
    return true;
  }
  if (!first_) {
    if (c != ',') return Fail();
    ++at_;
  }
  first_ = false;
  *more = true;
  return true;
}

bool JsonCursor::NextKey(std::string_view* key) {
  bool more = false;
  if (!Separated('}', &more) || !more) return false;
  if (Peek() != '"' || !TakeString(key)) return Fail();
  if (Peek() != ':') return Fail();
  ++at_;
  return true;
}

bool JsonCursor::NextItem() {
  bool more = false;
  if (!Separated(']', &more) || !more) return false;
  // "[1,]": a value must follow the comma.
  return Peek() == ']' ? Fail() : true;
}

bool JsonCursor::TakeString(std::string_view* raw) {
  const size_t start = ++at_;
  while (at_ < text_.size()) {
    const char c = text_[at_++];
    if (c == '"') {
      *raw = text_.substr(start, at_ - 1 - start);
      return true;
    }
    if (static_cast<unsigned char>(c) < 0x20) return Fail();
    if (c != '\\') continue;
    if (at_ >= text_.size()) break;
    const char escaped = text_[at_++];
    if (escaped == 'u') {
      for (int i = 0; i < 4; ++i, ++at_) {
        if (at_ >= text_.size() || !IsHex(text_[at_])) return Fail();
      }
    } else if (std::string_view("\"\\/bfnrt").find(escaped) == std::string_view::npos) {
      return Fail();
    }
  }
  return Fail();
}

bool JsonCursor::TakeDigits() {
  const size_t start = at_;
  while (at_ < text_.size() && IsDigit(text_[at_])) ++at_;
  return at_ > start ? true : Fail();
}

bool JsonCursor::TakeNumber(std::string_view* digits) {
  const size_t start = at_;
  if (text_[at_] == '-') ++at_;
  const size_t whole = at_;
  if (!TakeDigits()) return false;
  if (text_[whole] == '0' && at_ - whole > 1) return Fail();
  if (at_ < text_.size() && text_[at_] == '.') {
    ++at_;
    if (!TakeDigits()) return false;
  }
  if (at_ < text_.size() && (text_[at_] == 'e' || text_[at_] == 'E')) {
    ++at_;
    if (at_ < text_.size() && (text_[at_] == '+' || text_[at_] == '-')) ++at_;
    if (!TakeDigits()) return false;
  }
  *digits = text_.substr(start, at_ - start);
  return true;
}

bool JsonCursor::TakeWord(std::string_view word) {
  if (text_.substr(at_, word.size()) != word) return Fail();
  at_ += word.size();
  return true;
}

bool JsonCursor::ReadNumber(double* value) {
  if (failed_) return false;
  const char c = Peek();
  if (c != '-' && !IsDigit(c)) {
    Skip();
    return false;
  }
  std::string_view digits;
  if (!TakeNumber(&digits)) return false;
  const auto result = std::from_chars(digits.data(), digits.data() + digits.size(), *value);
  return result.ec == std::errc();  // out of range is valid JSON, but no number for us
}

bool JsonCursor::ReadString(std::string_view* raw) {
  if (failed_) return false;
  if (Peek() != '"') {
    Skip();
    return false;
  }
  return TakeString(raw);
}

void JsonCursor::Skip() {
  if (failed_) return;
  std::string_view ignored;
  switch (Peek()) {
    case '{':
      if (!EnterObject()) return;
      while (NextKey(&ignored)) Skip();
      return;
    case '[':
      if (!EnterArray()) return;
      while (NextItem()) Skip();
      return;
    case '"':
      (void)TakeString(&ignored);
      return;
    case 't':
      (void)TakeWord("true");
      return;
    case 'f':
      (void)TakeWord("false");
      return;
    case 'n':
      (void)TakeWord("null");
      return;
    case 0:
      (void)Fail();
      return;
    default:
      (void)TakeNumber(&ignored);
  }
}

bool JsonCursor::AtEnd() { return !failed_ && depth_ == 0 && Peek() == 0 && at_ == text_.size(); }

}  // namespace baton::load
