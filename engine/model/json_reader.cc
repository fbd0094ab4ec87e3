#include "engine/model/json_reader.h"

#include <set>
#include <utility>
#include <vector>

#include "absl/strings/str_cat.h"
#include "common/strings.h"

namespace baton {
namespace {

constexpr int kMaxDepth = 16;
constexpr size_t kMaxShownBytes = 60;

// Nesting of brackets outside of strings, before the parser allocates anything for it.
bool DeeperThan(std::string_view text, int limit) {
  int depth = 0;
  bool in_string = false;
  for (size_t i = 0; i < text.size(); ++i) {
    const char c = text[i];
    if (in_string) {
      if (c == '\\') ++i;
      if (c == '"') in_string = false;
    } else if (c == '"') {
      in_string = true;
    } else if (c == '{' || c == '[') {
      if (++depth > limit) return true;
    } else if (c == '}' || c == ']') {
      --depth;
    }
  }
  return false;
}

std::string Shown(const nlohmann::json& value) {
  if (value.is_structured()) return value.is_array() ? "a list" : "an object";
  std::string text = value.dump(-1, ' ', true, nlohmann::json::error_handler_t::replace);
  if (text.size() > kMaxShownBytes) text = text.substr(0, kMaxShownBytes) + "...";
  return text;
}

}  // namespace

absl::StatusOr<nlohmann::json> ParseJsonObject(std::string_view text, std::string_view where) {
  if (DeeperThan(text, kMaxDepth)) {
    return absl::InvalidArgumentError(
        absl::StrCat(View(where), ": JSON nested deeper than ", kMaxDepth));
  }
  std::vector<std::set<std::string>> open_objects;
  std::string repeated;
  const auto watch = [&](int, nlohmann::json::parse_event_t event, nlohmann::json& parsed) {
    using Event = nlohmann::json::parse_event_t;
    if (event == Event::object_start) open_objects.emplace_back();
    if (event == Event::object_end) open_objects.pop_back();
    if (event == Event::key) {
      const auto& key = parsed.get_ref<const std::string&>();
      if (!open_objects.back().insert(key).second && repeated.empty()) repeated = key;
    }
    return true;
  };
  nlohmann::json json = nlohmann::json::parse(text.begin(), text.end(), watch, false);
  // The parser takes a NUL for the end and does not look at what follows.
  const bool cut_short = text.find('\0') != std::string_view::npos;
  if (json.is_discarded() || !json.is_object() || cut_short) {
    return absl::InvalidArgumentError(absl::StrCat(View(where), ": not a valid JSON object"));
  }
  if (!repeated.empty()) {
    return absl::InvalidArgumentError(
        absl::StrCat(View(where), ": key \"", repeated, "\" appears twice"));
  }
  return json;
}

bool JsonFields::Has(const char* name) const { return Find(name) != nullptr; }

const nlohmann::json* JsonFields::Find(const char* name) const {
  const auto it = object_.find(name);
  return it == object_.end() || it->is_null() ? nullptr : &*it;
}

absl::Status JsonFields::Error(const char* name, std::string_view what) const {
  return absl::InvalidArgumentError(absl::StrCat(where_, ": ", name, " ", View(what)));
}

absl::StatusOr<int64_t> JsonFields::Int(const char* name, int64_t min, int64_t max,
                                        std::optional<int64_t> otherwise) const {
  const nlohmann::json* value = Find(name);
  if (value == nullptr) {
    if (otherwise.has_value()) return *otherwise;
    return Error(name, "is missing");
  }
  // An unsigned number above the signed range must not wrap into it.
  const bool whole = value->is_number_integer() &&
                     (!value->is_number_unsigned() || value->get<uint64_t>() <= uint64_t{1} << 62);
  if (!whole || value->get<int64_t>() < min || value->get<int64_t>() > max) {
    return Error(name, absl::StrCat("is ", Shown(*value), "; allowed: a whole number from ", min,
                                    " to ", max));
  }
  return value->get<int64_t>();
}

absl::StatusOr<double> JsonFields::Number(const char* name, double min, double max,
                                          std::optional<double> otherwise) const {
  const nlohmann::json* value = Find(name);
  if (value == nullptr) {
    if (otherwise.has_value()) return *otherwise;
    return Error(name, "is missing");
  }
  if (!value->is_number() || !(value->get<double>() >= min && value->get<double>() <= max)) {
    return Error(name,
                 absl::StrCat("is ", Shown(*value), "; allowed: a number from ", min, " to ", max));
  }
  return value->get<double>();
}

absl::StatusOr<bool> JsonFields::Bool(const char* name, bool otherwise) const {
  const nlohmann::json* value = Find(name);
  if (value == nullptr) return otherwise;
  if (!value->is_boolean()) {
    return Error(name, absl::StrCat("is ", Shown(*value), "; allowed: true or false"));
  }
  return value->get<bool>();
}

absl::StatusOr<std::string> JsonFields::String(const char* name,
                                               std::optional<std::string> otherwise) const {
  const nlohmann::json* value = Find(name);
  if (value == nullptr) {
    if (otherwise.has_value()) return *otherwise;
    return Error(name, "is missing");
  }
  if (!value->is_string()) {
    return Error(name, absl::StrCat("is ", Shown(*value), "; allowed: a string"));
  }
  return value->get<std::string>();
}

}  // namespace baton
