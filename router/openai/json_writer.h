// Writes JSON by hand: one chunk per token leaves here, so no tree is built for it.
#pragma once

#include <cstdint>
#include <span>
#include <string>
#include <string_view>

#include "common/ids.h"

namespace baton {

// Quoted and escaped. Bytes that are not UTF-8 become U+FFFD: output is always valid JSON.
void AppendJsonString(std::string& out, std::string_view text);
void AppendJsonStringOrNull(std::string& out, std::string_view text);  // empty: null
void AppendInt(std::string& out, int64_t value);
// Shortest form that reads back equal. JSON has no infinity: -inf and NaN become -9999, as other
// servers write impossible log-probabilities.
void AppendFloat(std::string& out, float value);
void AppendDouble(std::string& out, double value);
void AppendTokenIds(std::string& out, std::span<const TokenId> tokens);  // [1,2,3]

}  // namespace baton
