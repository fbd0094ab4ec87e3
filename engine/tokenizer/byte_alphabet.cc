#include "engine/tokenizer/byte_alphabet.h"

#include "engine/tokenizer/unicode/utf8.h"

namespace baton {
namespace {

constexpr int kAlphabetEnd = 0x144;  // one past the last character in use

constexpr bool StandsForItself(int byte) {
  return (byte >= 0x21 && byte <= 0x7E) || (byte >= 0xA1 && byte <= 0xAC) || byte >= 0xAE;
}

// [character] -> byte, or -1.
constexpr std::array<int16_t, kAlphabetEnd> MakeByteOfCharacter() {
  std::array<int16_t, kAlphabetEnd> table{};
  for (int16_t& entry : table) entry = -1;
  size_t next = 0x100;
  for (int byte = 0; byte < 256; ++byte) {
    table[StandsForItself(byte) ? static_cast<size_t>(byte) : next++] = static_cast<int16_t>(byte);
  }
  return table;
}

constexpr std::array<int16_t, kAlphabetEnd> kByteOfCharacter = MakeByteOfCharacter();

int HexDigit(char c) {
  if (c >= '0' && c <= '9') return c - '0';
  if (c >= 'A' && c <= 'F') return c - 'A' + 10;
  if (c >= 'a' && c <= 'f') return c - 'a' + 10;
  return -1;
}

}  // namespace

std::optional<std::string> BytesOfPiece(std::string_view piece) {
  std::string bytes;
  for (size_t pos = 0; pos < piece.size();) {
    const Utf8Char c = DecodeUtf8(piece, pos);
    if (c.code_point >= kAlphabetEnd || kByteOfCharacter[c.code_point] < 0) return std::nullopt;
    bytes.push_back(static_cast<char>(kByteOfCharacter[c.code_point]));
    pos += c.length_bytes;
  }
  return bytes;
}

std::optional<unsigned char> ByteOfFallbackPiece(std::string_view piece) {
  if (piece.size() != 6 || !piece.starts_with("<0x") || piece[5] != '>') return std::nullopt;
  const int high = HexDigit(piece[3]);
  const int low = HexDigit(piece[4]);
  if (high < 0 || low < 0) return std::nullopt;
  return static_cast<unsigned char>(high * 16 + low);
}

}  // namespace baton
