#include "router/openai/field_reader.h"

#include <algorithm>
#include <cmath>
#include <nlohmann/json.hpp>

#include "absl/strings/str_cat.h"
#include "common/strings.h"

namespace baton {
namespace {

using nlohmann::json;

// 16 and 16.0, but not 16.5, "16" or true. Unsigned values past int64 do not fit any range.
std::optional<int64_t> AsInteger(const json& value) {
  if (value.is_number_unsigned()) {
    const uint64_t number = value.get<uint64_t>();
    if (number > static_cast<uint64_t>(INT64_MAX)) return std::nullopt;
    return static_cast<int64_t>(number);
  }
  if (value.is_number_integer()) return value.get<int64_t>();
  if (value.is_number_float()) {
    const double number = value.get<double>();
    if (std::abs(number) < 9e15 && std::floor(number) == number) {
      return static_cast<int64_t>(number);
    }
  }
  return std::nullopt;
}

}  // namespace

FieldReader::FieldReader(const json& object, std::string path)
    : object_(object), path_(std::move(path)) {}

const json* FieldReader::Find(std::string_view name) {
  asked_.emplace_back(name);
  if (!ok()) return nullptr;
  const auto it = object_.find(asked_.back());
  if (it == object_.end() || it->is_null()) return nullptr;
  return &*it;
}

bool FieldReader::Bool(std::string_view name, bool fallback) {
  const json* value = Find(name);
  if (value == nullptr) return fallback;
  if (!value->is_boolean()) {
    FailType(name, *value, "a boolean");
    return fallback;
  }
  return value->get<bool>();
}

std::optional<int64_t> FieldReader::Integer(std::string_view name, const IntRange& range) {
  const json* value = Find(name);
  if (value == nullptr) return std::nullopt;
  const std::optional<int64_t> number = AsInteger(*value);
  if (!number.has_value()) {
    FailType(name, *value, "an integer");
    return std::nullopt;
  }
  Fail(CheckRange(Full(name), *number, range));
  return ok() ? number : std::nullopt;
}

std::optional<double> FieldReader::Number(std::string_view name, const NumberRange& range) {
  const json* value = Find(name);
  if (value == nullptr) return std::nullopt;
  if (!value->is_number()) {
    FailType(name, *value, "a number");
    return std::nullopt;
  }
  const double number = value->get<double>();
  Fail(CheckRange(Full(name), number, range));
  return ok() ? std::optional<double>(number) : std::nullopt;
}

std::optional<std::string> FieldReader::String(std::string_view name, size_t max_bytes) {
  const json* value = Find(name);
  if (value == nullptr) return std::nullopt;
  if (!value->is_string()) {
    FailType(name, *value, "a string");
    return std::nullopt;
  }
  const auto& text = value->get_ref<const std::string&>();
  if (text.size() > max_bytes) {
    Fail(name, absl::StrCat(Full(name), " has ", text.size(), " bytes; at most ", max_bytes,
                            " are allowed"));
    return std::nullopt;
  }
  return text;
}

const json* FieldReader::Object(std::string_view name) {
  const json* value = Find(name);
  if (value == nullptr || value->is_object()) return value;
  FailType(name, *value, "an object");
  return nullptr;
}

const json* FieldReader::Array(std::string_view name, size_t max_items) {
  const json* value = Find(name);
  if (value == nullptr) return nullptr;
  if (!value->is_array()) {
    FailType(name, *value, "an array");
    return nullptr;
  }
  if (value->size() > max_items) {
    Fail(name, absl::StrCat(Full(name), " has ", value->size(), " items; at most ", max_items,
                            " are allowed"));
    return nullptr;
  }
  return value;
}

std::vector<TokenId> FieldReader::TokenIdArray(std::string_view name, size_t max_items,
                                               int32_t vocab_size) {
  std::vector<TokenId> tokens;
  const json* value = Array(name, max_items);
  if (value == nullptr) return tokens;
  for (const json& item : *value) ReadTokenId(item, std::string(name), vocab_size, tokens);
  return tokens;
}

void FieldReader::ReadTokenId(const json& value, const std::string& name, int32_t vocab_size,
                              std::vector<TokenId>& out) {
  const std::optional<int64_t> token = AsInteger(value);
  if (!token.has_value()) {
    FailType(name, value, "token ids (integers)");
  } else if (*token < 0 || *token >= vocab_size) {
    Fail(name, absl::StrCat(Full(name), " holds token id ", *token,
                            "; the vocabulary has ids 0 to ", vocab_size - 1));
  } else {
    out.push_back(static_cast<TokenId>(*token));
  }
}

void FieldReader::Fail(std::string_view name, std::string message) {
  Fail(InvalidField(Full(name), std::move(message)));
}

void FieldReader::Fail(ApiError error) {
  if (ok()) error_ = std::move(error);
}

void FieldReader::Fail(std::optional<FieldError> error) {
  if (error.has_value()) Fail(FromFieldError(*std::move(error)));
}

void FieldReader::FailType(std::string_view name, const json& value, std::string_view wanted) {
  Fail(name, absl::StrCat(Full(name), " must be ", View(wanted), ", not ", value.type_name()));
}

void FieldReader::ReportUnknown(const std::function<void(std::string_view)>& report) const {
  if (!report) return;
  for (const auto& item : object_.items()) {
    if (std::find(asked_.begin(), asked_.end(), item.key()) == asked_.end()) {
      report(path_ + item.key());
    }
  }
}

}  // namespace baton
