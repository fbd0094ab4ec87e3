#include "router/link/slo_config.h"

#include <algorithm>
#include <map>
#include <set>

#include "absl/strings/ascii.h"
#include "absl/strings/numbers.h"
#include "absl/strings/str_cat.h"
#include "absl/strings/str_split.h"
#include "common/check.h"
#include "common/config.h"

namespace baton {
namespace {

constexpr size_t kMaxClasses = 32;  // each is a label of many series
constexpr size_t kMaxNameBytes = 64;

struct NumberField {
  const char* key;
  double min, max;
  bool required;
};
constexpr NumberField kNumberFields[] = {{"ttft_ms", 1, 3.6e6, true},
                                         {"tpot_ms", 0.1, 3.6e6, true},
                                         {"weight", 0.01, 100, false},
                                         {"shed_order", 0, 100, false}};

bool IsPlainName(const std::string& name) {
  if (name.empty() || name.size() > kMaxNameBytes) return false;
  return std::all_of(name.begin(), name.end(),
                     [](char c) { return absl::ascii_isalnum(c) || c == '_' || c == '-'; });
}

absl::StatusOr<std::map<std::string, std::string>> SplitFields(const std::string& entry) {
  std::vector<std::string> known = {"name"};
  for (const NumberField& field : kNumberFields) known.emplace_back(field.key);
  std::map<std::string, std::string> fields;
  for (const auto part : absl::StrSplit(entry, ';', absl::SkipWhitespace())) {
    const std::pair<std::string, std::string> pair = absl::StrSplit(part, absl::MaxSplits('=', 1));
    const std::string key(absl::StripAsciiWhitespace(pair.first));
    if (std::find(known.begin(), known.end(), key) == known.end()) {
      const std::string nearest = NearestWord(key, known);
      return absl::InvalidArgumentError(
          absl::StrCat("slo_classes: unknown field \"", key, "\" in \"", entry, "\"",
                       nearest.empty() ? "" : absl::StrCat("; did you mean \"", nearest, "\"?")));
    }
    if (!fields.emplace(key, absl::StripAsciiWhitespace(pair.second)).second) {
      return absl::InvalidArgumentError(
          absl::StrCat("slo_classes: ", key, " is there twice in \"", entry, "\""));
    }
  }
  return fields;
}

absl::StatusOr<router::SloClass> ParseOne(const std::string& entry) {
  ASSIGN_OR_RETURN(const auto fields, SplitFields(entry));
  router::SloClass out;
  const auto name = fields.find("name");
  if (name == fields.end() || !IsPlainName(name->second)) {
    return absl::InvalidArgumentError(absl::StrCat("slo_classes: \"", entry,
                                                   "\" needs a name of 1 to ", kMaxNameBytes,
                                                   " letters, digits, '-' or '_'"));
  }
  out.name = name->second;
  for (const NumberField& field : kNumberFields) {
    const auto found = fields.find(field.key);
    if (found == fields.end() && !field.required) continue;
    double value = 0;
    if (found == fields.end() || !absl::SimpleAtod(found->second, &value) ||
        !(value >= field.min && value <= field.max)) {
      return absl::InvalidArgumentError(
          absl::StrCat("slo_classes: ", out.name, ".", field.key, " is \"",
                       found == fields.end() ? "" : found->second, "\"; expected a number from ",
                       field.min, " to ", field.max));
    }
    const std::string key = field.key;
    if (key == "ttft_ms") out.target.ttft_ms = value;
    if (key == "tpot_ms") out.target.tpot_ms = value;
    if (key == "weight") out.weight = value;
    if (key == "shed_order") out.shed_order = static_cast<int32_t>(value);
  }
  return out;
}

}  // namespace

absl::StatusOr<std::vector<router::SloClass>> ParseSloClasses(
    const std::vector<std::string>& entries) {
  if (entries.size() > kMaxClasses) {
    return absl::InvalidArgumentError(absl::StrCat(
        "slo_classes: ", entries.size(), " classes; at most ", kMaxClasses, " are allowed"));
  }
  std::vector<router::SloClass> classes;
  std::set<std::string> names;
  for (const std::string& entry : entries) {
    ASSIGN_OR_RETURN(router::SloClass one, ParseOne(entry));
    if (!names.insert(one.name).second) {
      return absl::InvalidArgumentError(absl::StrCat("slo_classes: ", one.name, " is there twice"));
    }
    classes.push_back(std::move(one));
  }
  return classes;
}

}  // namespace baton
