// GPT-2's byte-level alphabet: a printable character for each of the 256 bytes, so that any bytes
// can stand in a text vocabulary. Printable Latin-1 bytes stand for themselves, the others for
// U+0100, U+0101, … in byte order ("Ġ" is the space).
#pragma once

#include <array>
#include <optional>
#include <string>
#include <string_view>

namespace baton {

// The bytes that `piece` spells, or nullopt when it has a character outside the alphabet.
std::optional<std::string> BytesOfPiece(std::string_view piece);

// The byte that a byte-fallback piece ("<0x0A>") names.
std::optional<unsigned char> ByteOfFallbackPiece(std::string_view piece);

}  // namespace baton
