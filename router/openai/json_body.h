// From untrusted bytes to a JSON object. Internal to router/openai.
#pragma once

#include <nlohmann/json.hpp>
#include <string_view>

#include "router/openai/api_error.h"

namespace baton {

inline constexpr int kMaxJsonDepth = 64;
inline constexpr int64_t kMaxJsonValues = 1'000'000;

// 400 for bytes that are not UTF-8, that are not one JSON object, or that nest or count past the
// bounds above. The bounds are checked before anything is allocated.
ApiResult<nlohmann::json> ParseJsonObject(std::string_view body);

}  // namespace baton
