// What the string filters and the str methods share.
#pragma once

#include <cstdint>
#include <string>
#include <string_view>

#include "absl/status/statusor.h"
#include "engine/tokenizer/jinja/value.h"

namespace baton::jinja {

// `most`: at most that many cuts, no limit when negative.
Items SplitAtSpace(std::string_view text, int64_t most);
Items SplitAt(std::string_view text, std::string_view separator, int64_t most, bool from_right);
Items SplitLines(std::string_view text, bool keep_ends);

// str.replace: an empty pattern matches before each character and at the end.
absl::StatusOr<std::string> ReplaceText(std::string_view text, std::string_view pattern,
                                        std::string_view content, int64_t most);
// str() of each item, with `separator` between.
absl::StatusOr<std::string> JoinText(const Items& items, std::string_view separator);

std::string Capitalize(std::string_view text);  // str.capitalize
std::string TitleWords(std::string_view text);  // str.title

}  // namespace baton::jinja
