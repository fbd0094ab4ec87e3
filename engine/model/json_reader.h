// Bounded JSON for model files. Private to this folder: it brings in the JSON library's header.
#pragma once

#include <cstdint>
#include <nlohmann/json.hpp>
#include <optional>
#include <string>
#include <string_view>

#include "absl/status/statusor.h"

namespace baton {

// Parses a JSON object. INVALID_ARGUMENT, with `where` in front, for anything that is not strict
// JSON, is nested deeper than 16, or names a key twice in one object.
absl::StatusOr<nlohmann::json> ParseJsonObject(std::string_view text, std::string_view where);

// Typed, bounded reads of one object's fields. A missing field and an explicit null are the same.
// Errors name file, field, value and what is allowed.
class JsonFields {
 public:
  // Keeps references to both.
  JsonFields(const nlohmann::json& object, std::string_view where)
      : object_(object), where_(where) {}

  bool Has(const char* name) const;
  // The field, or null.
  const nlohmann::json* Find(const char* name) const;
  absl::StatusOr<int64_t> Int(const char* name, int64_t min, int64_t max,
                              std::optional<int64_t> otherwise = std::nullopt) const;
  absl::StatusOr<double> Number(const char* name, double min, double max,
                                std::optional<double> otherwise = std::nullopt) const;
  absl::StatusOr<bool> Bool(const char* name, bool otherwise) const;
  absl::StatusOr<std::string> String(const char* name,
                                     std::optional<std::string> otherwise = std::nullopt) const;
  absl::Status Error(const char* name, std::string_view what) const;

 private:
  const nlohmann::json& object_;
  std::string where_;
};

}  // namespace baton
