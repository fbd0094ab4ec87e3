// From a configuration file to the values in it. Private to common: the schema says what they mean.
#pragma once

#include <string>
#include <vector>

#include "absl/status/statusor.h"

namespace baton {

// A setting's dotted key, its value as a flag would write it, its line.
struct YamlLeaf {
  std::string key;
  std::string value;
  int line = 0;
};

// The settings of `known_keys` that `text` gives a value, in its order; null leaves the default.
// INVALID_ARGUMENT names `file` and line: no YAML, a name that is not known, a value of the wrong
// shape.
absl::StatusOr<std::vector<YamlLeaf>> ReadYaml(const std::string& text, const std::string& file,
                                               const std::vector<std::string>& known_keys);

}  // namespace baton
