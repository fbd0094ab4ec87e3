// UTF-8 walking, repair and the question "does this end in half a character?".
//
// Ill-formed input is read as Unicode 15, section 3.9 recommends ("maximal subparts"), which is
// also what Python's errors="replace" and Rust's from_utf8_lossy do.
#pragma once

#include <cstddef>
#include <cstdint>
#include <string>
#include <string_view>

namespace baton {

inline constexpr char32_t kReplacementCharacter = 0xFFFD;
inline constexpr std::string_view kReplacementUtf8 = "\xEF\xBF\xBD";

// What stands at one place of a text. An ill-formed sequence has `valid` false, code point U+FFFD
// and the length of its maximal subpart; `cut_short` says that only the end of the text made it so.
struct Utf8Char {
  char32_t code_point = kReplacementCharacter;
  uint8_t length_bytes = 1;
  bool valid = false;
  bool cut_short = false;
};

// REQUIRES: pos < text.size().
Utf8Char DecodeUtf8(std::string_view text, size_t pos);

// REQUIRES: code_point is a Unicode scalar value.
void AppendUtf8(char32_t code_point, std::string& out);

bool IsValidUtf8(std::string_view text);

// `text` itself when it is well-formed, else a repaired copy in `storage`.
std::string_view RepairUtf8(std::string_view text, std::string& storage);

// The number of bytes at the end (0 to 3) that begin a character which the text does not finish.
size_t IncompleteUtf8Suffix(std::string_view text);

// The number of characters. REQUIRES: well-formed text.
size_t CountCharacters(std::string_view text);

// The byte offset of the character that follows the one at `pos`. REQUIRES: well-formed text.
inline size_t NextCharacter(std::string_view text, size_t pos) {
  do {
    ++pos;
  } while (pos < text.size() && (static_cast<unsigned char>(text[pos]) & 0xC0) == 0x80);
  return pos;
}

// The byte offset of the character before `pos`. REQUIRES: well-formed text, pos > 0.
inline size_t PreviousCharacter(std::string_view text, size_t pos) {
  do {
    --pos;
  } while (pos > 0 && (static_cast<unsigned char>(text[pos]) & 0xC0) == 0x80);
  return pos;
}

}  // namespace baton
