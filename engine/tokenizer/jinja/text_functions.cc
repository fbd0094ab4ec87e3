#include "engine/tokenizer/jinja/text_functions.h"

#include <algorithm>

#include "common/check.h"
#include "engine/tokenizer/jinja/text.h"
#include "engine/tokenizer/unicode/character.h"
#include "engine/tokenizer/unicode/utf8.h"

namespace baton::jinja {
namespace {

Value Text(std::string_view text) { return Value::String(std::string(text)); }

// The length of the line end at `pos`, 0: none. The line ends of str.splitlines.
size_t LineEndBytes(std::string_view text, size_t pos) {
  if (text.substr(pos).starts_with("\r\n")) return 2;
  const Utf8Char c = DecodeUtf8(text, pos);
  const char32_t code = c.code_point;
  const bool is_end = (code >= 0x0A && code <= 0x0D) || (code >= 0x1C && code <= 0x1E) ||
                      code == 0x85 || code == 0x2028 || code == 0x2029;
  return is_end ? c.length_bytes : 0;
}

}  // namespace

Items SplitAtSpace(std::string_view text, int64_t most) {
  Items parts;
  text = StripLeft(text);
  while (!text.empty()) {
    if (most >= 0 && static_cast<int64_t>(parts.size()) == most) {
      parts.push_back(Text(StripRight(text)));
      break;
    }
    size_t end = 0;
    while (end < text.size()) {
      const Utf8Char c = DecodeUtf8(text, end);
      if (IsPythonSpace(c.code_point)) break;
      end += c.length_bytes;
    }
    parts.push_back(Text(text.substr(0, end)));
    text = StripLeft(text.substr(end));
  }
  return parts;
}

Items SplitAt(std::string_view text, std::string_view separator, int64_t most, bool from_right) {
  Items parts;
  const auto may_cut = [&] { return most < 0 || static_cast<int64_t>(parts.size()) < most; };
  if (from_right) {
    for (size_t at = text.rfind(separator); at != std::string_view::npos && may_cut();
         at = text.rfind(separator)) {
      parts.push_back(Text(text.substr(at + separator.size())));
      text = text.substr(0, at);
    }
    parts.push_back(Text(text));
    std::reverse(parts.begin(), parts.end());
    return parts;
  }
  for (size_t at = text.find(separator); at != std::string_view::npos && may_cut();
       at = text.find(separator)) {
    parts.push_back(Text(text.substr(0, at)));
    text = text.substr(at + separator.size());
  }
  parts.push_back(Text(text));
  return parts;
}

Items SplitLines(std::string_view text, bool keep_ends) {
  Items lines;
  size_t begin = 0;
  for (size_t pos = 0; pos < text.size();) {
    const size_t end_bytes = LineEndBytes(text, pos);
    if (end_bytes == 0) {
      pos = NextCharacter(text, pos);
      continue;
    }
    lines.push_back(Text(text.substr(begin, pos - begin + (keep_ends ? end_bytes : 0))));
    pos += end_bytes;
    begin = pos;
  }
  if (begin < text.size()) lines.push_back(Text(text.substr(begin)));
  return lines;
}

absl::StatusOr<std::string> ReplaceText(std::string_view text, std::string_view pattern,
                                        std::string_view content, int64_t most) {
  std::string out;
  size_t done = 0;
  // An empty pattern matches at each character's begin and at the end.
  size_t at = text.find(pattern);
  for (int64_t count = 0; at != std::string_view::npos && (most < 0 || count < most); ++count) {
    out.append(text.substr(done, at - done)).append(content);
    if (out.size() > kMaxTextBytes) return TextTooLong();
    done = at + pattern.size();
    if (!pattern.empty()) {
      at = text.find(pattern, done);
    } else if (at >= text.size()) {
      at = std::string_view::npos;
    } else {
      at = NextCharacter(text, at);
    }
  }
  out.append(text.substr(done));
  return out;
}

absl::StatusOr<std::string> JoinText(const Items& items, std::string_view separator) {
  std::string out;
  for (size_t i = 0; i < items.size(); ++i) {
    if (i > 0) out.append(separator);
    ASSIGN_OR_RETURN(const std::string text, Str(items[i]));
    out += text;
    if (out.size() > kMaxTextBytes) return TextTooLong();
  }
  return out;
}

std::string Capitalize(std::string_view text) {
  if (text.empty()) return std::string();
  const Utf8Char first = DecodeUtf8(text, 0);
  std::string out;
  AppendTitleCase(first.code_point, out);
  return out + ToLower(text.substr(first.length_bytes));
}

std::string TitleWords(std::string_view text) {
  std::string out;
  bool in_word = false;
  for (size_t pos = 0; pos < text.size();) {
    const Utf8Char c = DecodeUtf8(text, pos);
    if (in_word) {
      out += ToLower(text.substr(pos, c.length_bytes));
    } else {
      AppendTitleCase(c.code_point, out);
    }
    in_word = IsCased(c.code_point);
    pos += c.length_bytes;
  }
  return out;
}

}  // namespace baton::jinja
