#include "common/config_yaml.h"

#include <yaml-cpp/yaml.h>

#include <algorithm>
#include <set>
#include <utility>

#include "absl/status/status.h"
#include "absl/strings/str_cat.h"
#include "absl/strings/str_join.h"
#include "common/check.h"
#include "common/config.h"

namespace baton {
namespace {

// An item of a list as a flag would write it: a plain value, or a map of them as "a=1;b=2".
absl::StatusOr<std::string> ListItem(const YAML::Node& item, const std::string& where) {
  if (item.IsScalar()) return item.Scalar();
  std::vector<std::string> fields;
  for (const auto& field : item) {
    if (!item.IsMap() || !field.second.IsScalar()) {
      return absl::InvalidArgumentError(
          absl::StrCat(where, ": expected a list of plain values or of maps of them"));
    }
    fields.push_back(absl::StrCat(field.first.Scalar(), "=", field.second.Scalar()));
  }
  return absl::StrJoin(fields, ";");
}

// The settings that a file may name, and the sections that they stand in.
struct KnownNames {
  explicit KnownNames(const std::vector<std::string>& settings) : keys(settings) {
    for (const std::string& key : keys) {
      for (size_t dot = key.find('.'); dot != std::string::npos; dot = key.find('.', dot + 1)) {
        sections.insert(key.substr(0, dot));
      }
    }
  }
  bool IsKey(const std::string& name) const {
    return std::find(keys.begin(), keys.end(), name) != keys.end();
  }
  std::string Unknown(const std::string& name) const {
    std::vector<std::string> all = keys;
    all.insert(all.end(), sections.begin(), sections.end());
    return UnknownWord("key", name, all);
  }

  const std::vector<std::string>& keys;
  std::set<std::string> sections;
};

absl::StatusOr<std::string> LeafValue(const YAML::Node& value, const std::string& where) {
  if (!value.IsSequence()) return value.Scalar();
  std::vector<std::string> parts;
  for (const auto& part : value) {
    ASSIGN_OR_RETURN(std::string text, ListItem(part, where));
    parts.push_back(std::move(text));
  }
  return absl::StrJoin(parts, ",");
}

// Enters known sections only: an alias may make a file's tree endless.
absl::Status CollectLeaves(const YAML::Node& node, const std::string& prefix,
                           const std::string& file, const KnownNames& known,
                           std::vector<YamlLeaf>* leaves) {
  for (const auto& item : node) {
    const std::string name = item.first.Scalar();
    const std::string key = prefix.empty() ? name : absl::StrCat(prefix, ".", name);
    const int line = item.first.Mark().line + 1;
    const std::string where = absl::StrCat(file, ":", line, ": ");
    const YAML::Node& value = item.second;
    if (known.sections.contains(key) && (value.IsMap() || value.IsNull())) {
      RETURN_IF_ERROR(CollectLeaves(value, key, file, known, leaves));
    } else if (!known.IsKey(key)) {
      return absl::InvalidArgumentError(absl::StrCat(where, known.Unknown(key)));
    } else if (value.IsMap()) {
      return absl::InvalidArgumentError(
          absl::StrCat(where, key, ": expected a plain value or a list"));
    } else if (!value.IsNull()) {  // null: leave the default
      ASSIGN_OR_RETURN(std::string text, LeafValue(value, absl::StrCat(where, key)));
      leaves->push_back({key, std::move(text), line});
    }
  }
  return absl::OkStatus();
}

}  // namespace

absl::StatusOr<std::vector<YamlLeaf>> ReadYaml(const std::string& text, const std::string& file,
                                               const std::vector<std::string>& known_keys) {
  std::vector<YamlLeaf> leaves;
  // yaml-cpp takes a NUL for the beginning of an escape.
  if (const size_t nul = text.find('\0'); nul != std::string::npos) {
    const auto line =
        1 + std::count(text.begin(), text.begin() + static_cast<ptrdiff_t>(nul), '\n');
    return absl::InvalidArgumentError(absl::StrCat(file, ":", line, ": the file holds a NUL"));
  }
  try {
    const YAML::Node root = YAML::Load(text);
    if (root.IsNull()) return leaves;
    if (!root.IsMap()) {
      return absl::InvalidArgumentError(absl::StrCat(file, ":1: expected `key: value` lines"));
    }
    RETURN_IF_ERROR(CollectLeaves(root, "", file, KnownNames(known_keys), &leaves));
  } catch (const YAML::Exception& error) {
    return absl::InvalidArgumentError(
        absl::StrCat(file, ":", error.mark.line + 1, ": ", error.msg));
  }
  return leaves;
}

}  // namespace baton
