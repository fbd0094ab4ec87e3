#include "engine/tokenizer/json_field.h"

#include <algorithm>
#include <filesystem>
#include <fstream>
#include <system_error>

#include "absl/strings/str_cat.h"
#include "common/check.h"
#include "common/strings.h"

namespace baton {
namespace {

constexpr int kMaxJsonDepth = 64;

}  // namespace

absl::StatusOr<nlohmann::json> ReadJsonFile(const std::string& path, size_t max_bytes) {
  std::error_code error;
  if (!std::filesystem::is_regular_file(path, error)) {
    return absl::NotFoundError(absl::StrCat(path, ": no such file"));
  }
  const uintmax_t size_bytes = std::filesystem::file_size(path, error);
  if (error || size_bytes > max_bytes) {
    return absl::InvalidArgumentError(
        absl::StrCat(path, ": ", size_bytes, " bytes, at most ", max_bytes, " are allowed"));
  }
  std::ifstream in(path, std::ios::binary);
  std::string text(size_bytes, '\0');
  if (!in.read(text.data(), static_cast<std::streamsize>(text.size()))) {
    return absl::InvalidArgumentError(absl::StrCat(path, ": cannot be read"));
  }
  // The parser would take a NUL for the end and not look at what follows.
  if (const size_t nul = text.find('\0'); nul != std::string::npos) {
    return absl::InvalidArgumentError(absl::StrCat(path, ": not valid JSON: a NUL at byte ", nul));
  }
  bool too_deep = false;
  const auto callback = [&too_deep](int depth, nlohmann::json::parse_event_t, nlohmann::json&) {
    too_deep = too_deep || depth > kMaxJsonDepth;
    return !too_deep;
  };
  nlohmann::json document;
  try {
    document = nlohmann::json::parse(text, callback);
  } catch (const nlohmann::json::exception& e) {
    return absl::InvalidArgumentError(absl::StrCat(path, ": not valid JSON: ", e.what()));
  }
  if (too_deep) {
    return absl::InvalidArgumentError(
        absl::StrCat(path, ": nested deeper than ", kMaxJsonDepth, " levels"));
  }
  return document;
}

absl::Status JsonField::Error(std::string_view what) const {
  return absl::InvalidArgumentError(
      absl::StrCat(View(file_), ": field ", path_.empty() ? "(top)" : path_, ": ", View(what)));
}

JsonField JsonField::Child(const nlohmann::json& node, std::string_view key) const {
  return JsonField(node, file_,
                   path_.empty() ? std::string(key) : absl::StrCat(path_, ".", View(key)));
}

std::optional<JsonField> JsonField::Find(std::string_view key) const {
  const auto it = node_->find(std::string(key));
  if (it == node_->end() || it->is_null()) return std::nullopt;
  return Child(*it, key);
}

absl::StatusOr<JsonField> JsonField::Get(std::string_view key) const {
  RETURN_IF_ERROR(ExpectObject());
  std::optional<JsonField> found = Find(key);
  if (!found) return Error(absl::StrCat("\"", View(key), "\" is missing"));
  return *std::move(found);
}

absl::Status JsonField::ExpectObject() const {
  if (!node_->is_object()) return Error("must be an object");
  return absl::OkStatus();
}

absl::Status JsonField::ExpectKeys(std::initializer_list<std::string_view> allowed) const {
  RETURN_IF_ERROR(ExpectObject());
  for (const auto& [key, value] : node_->items()) {
    if (std::find(allowed.begin(), allowed.end(), key) == allowed.end()) {
      return Child(value, key).Error("is not supported");
    }
  }
  return absl::OkStatus();
}

absl::StatusOr<std::vector<JsonField>> JsonField::Elements() const {
  if (!node_->is_array()) return Error("must be an array");
  std::vector<JsonField> elements;
  elements.reserve(node_->size());
  for (size_t i = 0; i < node_->size(); ++i) {
    elements.push_back(JsonField((*node_)[i], file_, absl::StrCat(path_, "[", i, "]")));
  }
  return elements;
}

absl::StatusOr<std::string> JsonField::String() const {
  if (!node_->is_string()) return Error("must be a string");
  return node_->get<std::string>();
}

absl::StatusOr<int64_t> JsonField::Integer(int64_t low, int64_t high) const {
  const bool fits = node_->is_number_integer() &&
                    !(node_->is_number_unsigned() && node_->get<uint64_t>() > INT64_MAX);
  if (!fits || node_->get<int64_t>() < low || node_->get<int64_t>() > high) {
    return Error(absl::StrCat("must be an integer from ", low, " to ", high));
  }
  return node_->get<int64_t>();
}

absl::StatusOr<std::string> JsonField::GetString(std::string_view key) const {
  ASSIGN_OR_RETURN(const JsonField field, Get(key));
  return field.String();
}

absl::StatusOr<bool> JsonField::GetBool(std::string_view key, bool if_absent) const {
  const std::optional<JsonField> field = Find(key);
  if (!field) return if_absent;
  if (!field->node().is_boolean()) return field->Error("must be true or false");
  return field->node().get<bool>();
}

}  // namespace baton
