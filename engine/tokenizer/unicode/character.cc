#include "engine/tokenizer/unicode/character.h"

#include <unicode/bytestream.h>
#include <unicode/casemap.h>
#include <unicode/uchar.h>

#include <algorithm>

#include "common/check.h"
#include "engine/tokenizer/unicode/utf8.h"

namespace baton {
namespace {

UChar32 ToIcu(char32_t c) { return static_cast<UChar32>(c); }

bool IsAscii(std::string_view text) {
  return std::all_of(text.begin(), text.end(),
                     [](char c) { return static_cast<unsigned char>(c) < 0x80; });
}

char AsciiUpper(char c) { return c >= 'a' && c <= 'z' ? static_cast<char>(c - 'a' + 'A') : c; }
char AsciiLower(char c) { return c >= 'A' && c <= 'Z' ? static_cast<char>(c - 'A' + 'a') : c; }

icu::StringPiece Piece(std::string_view text) {
  return {text.data(), static_cast<int32_t>(text.size())};
}

}  // namespace

bool IsWhiteSpace(char32_t c) {
  if (c < 0x80) return c == ' ' || (c >= 9 && c <= 13);
  return u_isUWhiteSpace(ToIcu(c)) != 0;
}

bool IsPythonSpace(char32_t c) { return IsWhiteSpace(c) || (c >= 0x1C && c <= 0x1F); }

bool IsWordCharacter(char32_t c) {
  if (c == 0x200C || c == 0x200D) return true;  // Join_Control
  const int32_t category = U_MASK(u_charType(ToIcu(c)));
  return u_isUAlphabetic(ToIcu(c)) != 0 ||
         (category & (U_GC_M_MASK | U_GC_ND_MASK | U_GC_PC_MASK)) != 0;
}

bool IsDecimalDigit(char32_t c) { return u_charType(ToIcu(c)) == U_DECIMAL_DIGIT_NUMBER; }
bool IsLetter(char32_t c) { return (U_MASK(u_charType(ToIcu(c))) & U_GC_L_MASK) != 0; }
bool IsCased(char32_t c) { return u_hasBinaryProperty(ToIcu(c), UCHAR_CASED) != 0; }

bool IsPythonPrintable(char32_t c) {
  if (c == ' ') return true;
  const int32_t category = U_MASK(u_charType(ToIcu(c)));
  return (category & (U_GC_C_MASK | U_GC_Z_MASK)) == 0;
}

std::string ToUpper(std::string_view text) {
  std::string out;
  if (IsAscii(text)) {
    out.resize(text.size());
    std::transform(text.begin(), text.end(), out.begin(), AsciiUpper);
    return out;
  }
  UErrorCode status = U_ZERO_ERROR;
  icu::StringByteSink<std::string> sink(&out);
  icu::CaseMap::utf8ToUpper("", 0, Piece(text), sink, nullptr, status);
  BATON_CHECK(U_SUCCESS(status)) << u_errorName(status);
  return out;
}

std::string ToLower(std::string_view text) {
  std::string out;
  if (IsAscii(text)) {
    out.resize(text.size());
    std::transform(text.begin(), text.end(), out.begin(), AsciiLower);
    return out;
  }
  UErrorCode status = U_ZERO_ERROR;
  icu::StringByteSink<std::string> sink(&out);
  icu::CaseMap::utf8ToLower("", 0, Piece(text), sink, nullptr, status);
  BATON_CHECK(U_SUCCESS(status)) << u_errorName(status);
  return out;
}

void AppendTitleCase(char32_t c, std::string& out) {
  AppendUtf8(static_cast<char32_t>(u_totitle(ToIcu(c))), out);
}

}  // namespace baton
