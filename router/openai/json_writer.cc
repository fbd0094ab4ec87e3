#include "router/openai/json_writer.h"

#include <charconv>
#include <cmath>

#include "router/front/utf8.h"

namespace baton {
namespace {

constexpr double kImpossibleLogprob = -9999.0;

bool IsPlain(char c) {
  const auto byte = static_cast<unsigned char>(c);
  return byte >= 0x20 && byte < 0x80 && c != '"' && c != '\\';
}

void AppendControl(std::string& out, char c) {
  constexpr char kHex[] = "0123456789abcdef";
  switch (c) {
    case '\n':
      out += "\\n";
      return;
    case '\r':
      out += "\\r";
      return;
    case '\t':
      out += "\\t";
      return;
    default:
      out += "\\u00";
      out += kHex[(c >> 4) & 0xF];
      out += kHex[c & 0xF];
  }
}

template <typename T>
void AppendNumber(std::string& out, T value) {
  char buffer[40];
  const auto result = std::to_chars(buffer, buffer + sizeof(buffer), value);
  out.append(buffer, result.ptr);
}

}  // namespace

void AppendJsonString(std::string& out, std::string_view text) {
  out += '"';
  size_t i = 0;
  while (i < text.size()) {
    size_t end = i;
    while (end < text.size() && IsPlain(text[end])) ++end;
    out.append(text, i, end - i);
    i = end;
    if (i == text.size()) break;
    const char c = text[i];
    if (c == '"' || c == '\\') {
      out += '\\';
      out += c;
      ++i;
    } else if (static_cast<unsigned char>(c) < 0x20) {
      AppendControl(out, c);
      ++i;
    } else if (const size_t length = Utf8CharLength(text, i); length > 0) {
      out.append(text, i, length);
      i += length;
    } else {
      out += "\xEF\xBF\xBD";
      ++i;
    }
  }
  out += '"';
}

void AppendJsonStringOrNull(std::string& out, std::string_view text) {
  if (text.empty()) {
    out += "null";
  } else {
    AppendJsonString(out, text);
  }
}

void AppendInt(std::string& out, int64_t value) { AppendNumber(out, value); }

void AppendFloat(std::string& out, float value) {
  if (std::isfinite(value)) {
    AppendNumber(out, value);
  } else {
    AppendNumber(out, kImpossibleLogprob);
  }
}

void AppendDouble(std::string& out, double value) {
  AppendNumber(out, std::isfinite(value) ? value : kImpossibleLogprob);
}

void AppendTokenIds(std::string& out, std::span<const TokenId> tokens) {
  out += '[';
  for (size_t i = 0; i < tokens.size(); ++i) {
    if (i > 0) out += ',';
    AppendInt(out, tokens[i]);
  }
  out += ']';
}

}  // namespace baton
