// Debian builds Abseil with a string_view of its own, so std::string_view does not convert to
// absl::string_view by itself. Our interfaces use std::string_view; wrap at the call:
// absl::StrCat("field ", View(name), " is unknown").
#pragma once

#include <string_view>

#include "absl/strings/string_view.h"

namespace baton {

inline absl::string_view View(std::string_view text) { return {text.data(), text.size()}; }
inline std::string_view View(absl::string_view text) { return {text.data(), text.size()}; }

}  // namespace baton
