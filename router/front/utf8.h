// UTF-8 by the letter of the Unicode standard, table 3-7: no surrogates, no overlong forms, nothing
// above U+10FFFF.
#pragma once

#include <cstddef>
#include <cstdint>
#include <string_view>

namespace baton {

// The length of the well-formed character that starts at `offset`, or 0.
size_t Utf8CharLength(std::string_view text, size_t offset);

// The offset of the first byte that is not part of a well-formed character; text.size() if all are.
size_t FirstInvalidUtf8(std::string_view text);

// Characters in well-formed text: Python's len().
int64_t CountCodePoints(std::string_view text);

}  // namespace baton
