#include "engine/tokenizer/jinja/text.h"

#include <array>
#include <charconv>
#include <cmath>

#include "absl/status/status.h"
#include "absl/strings/str_cat.h"
#include "absl/strings/str_format.h"
#include "common/check.h"
#include "common/strings.h"
#include "engine/tokenizer/unicode/character.h"
#include "engine/tokenizer/unicode/utf8.h"

namespace baton::jinja {
namespace {

bool HasCharacter(std::string_view characters, std::string_view character) {
  for (size_t pos = 0; pos < characters.size();) {
    const size_t next = NextCharacter(characters, pos);
    if (characters.substr(pos, next - pos) == character) return true;
    pos = next;
  }
  return false;
}

// Reads `count` digits of base 8 or 16 at `pos`; -1 when there are fewer than `least`.
int64_t ReadDigits(std::string_view text, size_t& pos, int base, size_t least, size_t count) {
  uint32_t value = 0;
  const size_t end = std::min(text.size(), pos + count);
  const auto [last, error] = std::from_chars(text.data() + pos, text.data() + end, value, base);
  const auto length = static_cast<size_t>(last - (text.data() + pos));
  if (error != std::errc() || length < least) return -1;
  pos += length;
  return value;
}

absl::Status AppendRepr(const Value& value, std::string& out);

absl::Status AppendItems(const Items& items, std::string& out) {
  for (size_t i = 0; i < items.size(); ++i) {
    if (i > 0) out += ", ";
    RETURN_IF_ERROR(AppendRepr(items[i], out));
    if (out.size() > kMaxTextBytes) return TextTooLong();
  }
  return absl::OkStatus();
}

// repr(value). Recursion is bounded by the depth of values.
absl::Status AppendRepr(const Value& value, std::string& out) {
  switch (value.kind()) {
    case Value::Kind::kUndefined:
      out += "Undefined";
      return absl::OkStatus();
    case Value::Kind::kNone:
      out += "None";
      return absl::OkStatus();
    case Value::Kind::kBool:
      out += value.boolean() ? "True" : "False";
      return absl::OkStatus();
    case Value::Kind::kInt:
      absl::StrAppend(&out, value.integer());
      return absl::OkStatus();
    case Value::Kind::kFloat:
      out += FloatRepr(value.number());
      return absl::OkStatus();
    case Value::Kind::kString:
      out += StringRepr(value.text());
      return absl::OkStatus();
    case Value::Kind::kList:
      out += value.is_tuple() ? "(" : "[";
      RETURN_IF_ERROR(AppendItems(value.items(), out));
      if (value.is_tuple() && value.items().size() == 1) out += ",";
      out += value.is_tuple() ? ")" : "]";
      return absl::OkStatus();
    case Value::Kind::kDict: {
      out += "{";
      bool first = true;
      for (const auto& [key, item] : value.dict().entries()) {
        if (!first) out += ", ";
        first = false;
        absl::StrAppend(&out, StringRepr(key), ": ");
        RETURN_IF_ERROR(AppendRepr(item, out));
        if (out.size() > kMaxTextBytes) return TextTooLong();
      }
      out += "}";
      return absl::OkStatus();
    }
    default:
      return absl::InvalidArgumentError(
          absl::StrCat("a ", View(value.TypeName()), " cannot be printed"));
  }
}

}  // namespace

absl::Status TextTooLong() {
  return absl::InvalidArgumentError(
      absl::StrCat("a text would be longer than ", kMaxTextBytes, " bytes"));
}

size_t SpacePrefixBytes(std::string_view text) { return text.size() - StripLeft(text).size(); }

std::string_view StripLeft(std::string_view text) {
  size_t pos = 0;
  while (pos < text.size()) {
    const Utf8Char c = DecodeUtf8(text, pos);
    if (!IsPythonSpace(c.code_point)) break;
    pos += c.length_bytes;
  }
  return text.substr(pos);
}

std::string_view StripRight(std::string_view text) {
  size_t end = text.size();
  while (end > 0) {
    const size_t previous = PreviousCharacter(text, end);
    if (!IsPythonSpace(DecodeUtf8(text, previous).code_point)) break;
    end = previous;
  }
  return text.substr(0, end);
}

std::string_view StripLeft(std::string_view text, std::string_view characters) {
  size_t pos = 0;
  while (pos < text.size()) {
    const size_t next = NextCharacter(text, pos);
    if (!HasCharacter(characters, text.substr(pos, next - pos))) break;
    pos = next;
  }
  return text.substr(pos);
}

std::string_view StripRight(std::string_view text, std::string_view characters) {
  size_t end = text.size();
  while (end > 0) {
    const size_t previous = PreviousCharacter(text, end);
    if (!HasCharacter(characters, text.substr(previous, end - previous))) break;
    end = previous;
  }
  return text.substr(0, end);
}

absl::StatusOr<std::string> UnescapePython(std::string_view literal) {
  static constexpr std::string_view kNames = "\\'\"abfnrtv";
  static constexpr std::string_view kMeanings = "\\'\"\a\b\f\n\r\t\v";
  std::string out;
  for (size_t pos = 0; pos < literal.size();) {
    const char c = literal[pos++];
    if (c != '\\' || pos == literal.size()) {
      out.push_back(c);
      continue;
    }
    const char kind = literal[pos];
    if (const size_t at = kNames.find(kind); at != std::string_view::npos) {
      out.push_back(kMeanings[at]);
      ++pos;
    } else if (kind == '\n') {
      ++pos;
    } else if ((kind >= '0' && kind <= '7') || kind == 'x' || kind == 'u' || kind == 'U') {
      const bool octal = kind <= '7';
      const size_t count = octal ? 3 : kind == 'x' ? 2 : kind == 'u' ? 4 : 8;
      if (!octal) ++pos;
      const int64_t value = ReadDigits(literal, pos, octal ? 8 : 16, octal ? 1 : count, count);
      if (value < 0 || value > 0x10FFFF || (value >= 0xD800 && value <= 0xDFFF)) {
        return absl::InvalidArgumentError("a string has a bad escape");
      }
      AppendUtf8(static_cast<char32_t>(value), out);
    } else if (kind == 'N') {
      return absl::InvalidArgumentError("the escape \\N is not supported");
    } else {
      out.push_back('\\');  // Python leaves unknown escapes as they are
    }
  }
  return out;
}

std::string FloatRepr(double value) {
  if (std::isnan(value)) return "nan";
  if (std::isinf(value)) return value < 0 ? "-inf" : "inf";
  std::array<char, 40> buffer{};
  const auto scientific = std::to_chars(buffer.data(), buffer.data() + buffer.size(), value,
                                        std::chars_format::scientific);
  std::string text(buffer.data(), scientific.ptr);
  const int exponent = std::atoi(text.c_str() + text.find('e') + 1);
  if (exponent < -4 || exponent >= 16) return text;  // 1e+22, 1.5e-07: as Python writes them
  std::array<char, 64> plain{};
  const auto fixed =
      std::to_chars(plain.data(), plain.data() + plain.size(), value, std::chars_format::fixed);
  text.assign(plain.data(), fixed.ptr);
  if (text.find('.') == std::string::npos) text += ".0";
  return text;
}

std::string StringRepr(std::string_view text) {
  const char quote =
      text.find('\'') != std::string_view::npos && text.find('"') == std::string_view::npos ? '"'
                                                                                            : '\'';
  std::string out(1, quote);
  for (size_t pos = 0; pos < text.size();) {
    const Utf8Char c = DecodeUtf8(text, pos);
    const auto code = static_cast<uint32_t>(c.code_point);
    if (code == '\\' || code == static_cast<uint32_t>(quote)) {
      out.push_back('\\');
      out.push_back(static_cast<char>(code));
    } else if (code == '\n') {
      out += "\\n";
    } else if (code == '\r') {
      out += "\\r";
    } else if (code == '\t') {
      out += "\\t";
    } else if (IsPythonPrintable(c.code_point)) {
      out.append(text.substr(pos, c.length_bytes));
    } else if (code < 0x100) {
      absl::StrAppendFormat(&out, "\\x%02x", code);
    } else if (code < 0x10000) {
      absl::StrAppendFormat(&out, "\\u%04x", code);
    } else {
      absl::StrAppendFormat(&out, "\\U%08x", code);
    }
    pos += c.length_bytes;
  }
  out.push_back(quote);
  return out;
}

absl::StatusOr<std::string> Str(const Value& value) {
  if (value.IsString()) return value.text();
  if (value.IsUndefined()) return std::string();
  std::string out;
  RETURN_IF_ERROR(AppendRepr(value, out));
  return out;
}

}  // namespace baton::jinja
