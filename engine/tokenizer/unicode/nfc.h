// Unicode normalization form C, in linear time on any input.
#pragma once

#include <string>
#include <string_view>

namespace baton {

// `text` itself when it is in NFC already, else its NFC in `storage`.
// REQUIRES: well-formed UTF-8, under 1 GiB.
std::string_view NormalizeNfc(std::string_view text, std::string& storage);

}  // namespace baton
