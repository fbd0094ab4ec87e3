// Reads the fields of one JSON object with types and ranges. Internal to router/openai.
//
// The first problem is kept and every later read answers "absent", so that a parser reads its
// fields in a straight line and asks ok() at the end.
#pragma once

#include <functional>
#include <nlohmann/json_fwd.hpp>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

#include "router/front/limits.h"
#include "router/openai/api_error.h"

namespace baton {

class FieldReader {
 public:
  // `path` goes before field names in errors: "stream_options.". `object` must be a JSON object
  // that outlives the reader.
  explicit FieldReader(const nlohmann::json& object, std::string path = "");

  // Null and absent are the same to all of these.
  const nlohmann::json* Find(std::string_view name);
  bool Has(std::string_view name) { return Find(name) != nullptr; }
  bool Bool(std::string_view name, bool fallback);
  std::optional<int64_t> Integer(std::string_view name, const IntRange& range);
  std::optional<double> Number(std::string_view name, const NumberRange& range);
  std::optional<std::string> String(std::string_view name, size_t max_bytes);
  const nlohmann::json* Object(std::string_view name);
  // At most `max_items` items, of any type.
  const nlohmann::json* Array(std::string_view name, size_t max_items);
  std::vector<TokenId> TokenIdArray(std::string_view name, size_t max_items, int32_t vocab_size);

  // `name` is what the errors call the value. Shared with callers that walk arrays themselves.
  void ReadTokenId(const nlohmann::json& value, const std::string& name, int32_t vocab_size,
                   std::vector<TokenId>& out);

  void Fail(std::string_view name, std::string message);
  void Fail(ApiError error);
  void Fail(std::optional<FieldError> error);  // nullopt: no problem
  void FailType(std::string_view name, const nlohmann::json& value, std::string_view wanted);

  bool ok() const { return !error_.has_value(); }
  const ApiError& error() const { return *error_; }
  // Calls `report` for every field that nobody asked for.
  void ReportUnknown(const std::function<void(std::string_view)>& report) const;

 private:
  std::string Full(std::string_view name) const { return path_ + std::string(name); }

  const nlohmann::json& object_;
  const std::string path_;
  std::optional<ApiError> error_;
  std::vector<std::string> asked_;
};

}  // namespace baton
