#include "engine/tokenizer/unicode/utf8.h"

#include <algorithm>

namespace baton {
namespace {

// The bytes that may follow a lead byte directly, and how many follow in all.
struct Lead {
  int continuation_bytes;  // 0: not a lead byte
  unsigned char low, high;
  char32_t bits;
};

Lead ClassifyLead(unsigned char byte) {
  if (byte >= 0xC2 && byte <= 0xDF) return {1, 0x80, 0xBF, byte & 0x1Fu};
  if (byte == 0xE0) return {2, 0xA0, 0xBF, 0};
  if (byte == 0xED) return {2, 0x80, 0x9F, 0xD};
  if (byte >= 0xE1 && byte <= 0xEF) return {2, 0x80, 0xBF, byte & 0x0Fu};
  if (byte == 0xF0) return {3, 0x90, 0xBF, 0};
  if (byte == 0xF4) return {3, 0x80, 0x8F, 4};
  if (byte >= 0xF1 && byte <= 0xF3) return {3, 0x80, 0xBF, byte & 0x07u};
  return {0, 0, 0, 0};
}

size_t FirstInvalid(std::string_view text) {
  size_t pos = 0;
  while (pos < text.size()) {
    if (static_cast<unsigned char>(text[pos]) < 0x80) {
      ++pos;
      continue;
    }
    const Utf8Char c = DecodeUtf8(text, pos);
    if (!c.valid) break;
    pos += c.length_bytes;
  }
  return pos;
}

}  // namespace

Utf8Char DecodeUtf8(std::string_view text, size_t pos) {
  const auto first = static_cast<unsigned char>(text[pos]);
  if (first < 0x80) return {first, 1, true, false};
  Lead lead = ClassifyLead(first);
  if (lead.continuation_bytes == 0) return {};
  char32_t code_point = lead.bits;
  for (int i = 1; i <= lead.continuation_bytes; ++i) {
    const auto length = static_cast<uint8_t>(i);
    if (pos + i >= text.size()) return {kReplacementCharacter, length, false, true};
    const auto byte = static_cast<unsigned char>(text[pos + i]);
    if (byte < lead.low || byte > lead.high) return {kReplacementCharacter, length, false, false};
    code_point = (code_point << 6) | (byte & 0x3Fu);
    lead.low = 0x80;
    lead.high = 0xBF;
  }
  return {code_point, static_cast<uint8_t>(lead.continuation_bytes + 1), true, false};
}

void AppendUtf8(char32_t code_point, std::string& out) {
  if (code_point < 0x80) {
    out.push_back(static_cast<char>(code_point));
  } else if (code_point < 0x800) {
    out.push_back(static_cast<char>(0xC0 | (code_point >> 6)));
    out.push_back(static_cast<char>(0x80 | (code_point & 0x3F)));
  } else if (code_point < 0x10000) {
    out.push_back(static_cast<char>(0xE0 | (code_point >> 12)));
    out.push_back(static_cast<char>(0x80 | ((code_point >> 6) & 0x3F)));
    out.push_back(static_cast<char>(0x80 | (code_point & 0x3F)));
  } else {
    out.push_back(static_cast<char>(0xF0 | (code_point >> 18)));
    out.push_back(static_cast<char>(0x80 | ((code_point >> 12) & 0x3F)));
    out.push_back(static_cast<char>(0x80 | ((code_point >> 6) & 0x3F)));
    out.push_back(static_cast<char>(0x80 | (code_point & 0x3F)));
  }
}

bool IsValidUtf8(std::string_view text) { return FirstInvalid(text) == text.size(); }

std::string_view RepairUtf8(std::string_view text, std::string& storage) {
  size_t pos = FirstInvalid(text);
  if (pos == text.size()) return text;
  storage.assign(text.substr(0, pos));
  storage.reserve(text.size() + text.size() / 8);
  while (pos < text.size()) {
    const Utf8Char c = DecodeUtf8(text, pos);
    if (c.valid) {
      storage.append(text.substr(pos, c.length_bytes));
    } else {
      storage.append(kReplacementUtf8);
    }
    pos += c.length_bytes;
  }
  return storage;
}

size_t IncompleteUtf8Suffix(std::string_view text) {
  const size_t longest = std::min<size_t>(3, text.size());
  for (size_t back = 1; back <= longest; ++back) {
    const auto byte = static_cast<unsigned char>(text[text.size() - back]);
    if ((byte & 0xC0) == 0x80) continue;
    const Utf8Char c = DecodeUtf8(text, text.size() - back);
    return c.cut_short && c.length_bytes == back ? back : 0;
  }
  return 0;
}

size_t CountCharacters(std::string_view text) {
  size_t count = 0;
  for (const char c : text) count += (static_cast<unsigned char>(c) & 0xC0) != 0x80;
  return count;
}

}  // namespace baton
