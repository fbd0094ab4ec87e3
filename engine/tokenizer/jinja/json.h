// JSON to values and back.
#pragma once

#include <optional>
#include <string>
#include <string_view>

#include "absl/status/statusor.h"
#include "engine/tokenizer/jinja/value.h"

namespace baton::jinja {

// Values nest at most this deep, wherever they come from.
inline constexpr int kMaxValueDepth = 100;

// INVALID_ARGUMENT: not JSON, nested deeper than kMaxValueDepth, or an integer beyond 64 bits.
// Object members keep their order.
absl::StatusOr<Value> ParseJson(std::string_view text);

struct JsonStyle {
  std::optional<std::string> indent;  // one level of it; absent: all on one line
  std::string item_separator = ", ";
  std::string key_separator = ": ";
  bool sort_keys = false;
  bool ensure_ascii = false;
};
// json.dumps(value, …) of Python.
absl::StatusOr<std::string> DumpJson(const Value& value, const JsonStyle& style);

}  // namespace baton::jinja
