// Replacing one literal text by another.
#pragma once

#include <string>
#include <string_view>

namespace baton {

// `text` itself when `pattern` does not occur, else a copy in `storage` with every occurrence
// (left to right, not overlapping) replaced. REQUIRES: pattern is not empty.
std::string_view ReplaceLiteral(std::string_view text, std::string_view pattern,
                                std::string_view content, std::string& storage);

}  // namespace baton
