// Layered configuration: flag > environment > YAML file > default, with the source of each value.
//
// A process describes its settings once, in a ConfigSchema bound to the fields of its options
// struct. From that follow the YAML keys (`http.port`), the environment variables
// (`BATON_HTTP_PORT`), the flags (`--http-port`), --help, --print-config and the error messages. An
// unknown key or a value out of range is an error that says where it stands and what was allowed.
#pragma once

#include <cstdint>
#include <functional>
#include <limits>
#include <map>
#include <string>
#include <string_view>
#include <vector>

#include "absl/status/status.h"
#include "absl/time/time.h"

namespace baton {

// One setting. `parse` stores a value or says what was allowed; `show` renders the current one.
struct ConfigEntry {
  std::string key;       // "http.port"
  std::string help;      // one line, with the unit
  std::string allowed;   // "1 to 65535", "prefill, decode or both"; may be empty
  bool is_flag = false;  // a boolean: `--json-logs` alone means true
  std::function<absl::Status(std::string_view)> parse;
  std::function<std::string()> show;
  std::string source = "default";

  std::string FlagName() const;         // "--http-port"
  std::string EnvironmentName() const;  // "BATON_HTTP_PORT"
};

// Not thread-safe: used while a process starts. Bound fields must outlive the schema.
class ConfigSchema {
 public:
  void AddInt(std::string key, int32_t* field, int32_t min, int32_t max, std::string help);
  void AddDouble(std::string key, double* field, double min, double max, std::string help);
  void AddBool(std::string key, bool* field, std::string help);
  void AddString(std::string key, std::string* field, std::string help);
  // Text that is shown as "(set)". Better given by environment or file than by flag, which others
  // on the machine can see.
  void AddSecret(std::string key, std::string* field, std::string help);
  // One of a few words.
  void AddChoice(std::string key, std::string* field, std::vector<std::string> choices,
                 std::string help);
  // "512MiB", "2GiB", "1048576".
  void AddBytes(std::string key, int64_t* field, int64_t min, int64_t max, std::string help);
  // "250ms", "3s".
  void AddDuration(std::string key, absl::Duration* field, absl::Duration min, absl::Duration max,
                   std::string help);
  // Comma-separated in flags and environment, a sequence in YAML. An item that is a map there is
  // "key=value;key=value" here.
  void AddList(std::string key, std::vector<std::string>* field, std::string help);
  void AddIntList(std::string key, std::vector<int32_t>* field, std::string help);

  // `text` is the file's content, `file` its name for messages ("baton.yaml:12: …").
  absl::Status ApplyYaml(const std::string& text, const std::string& file);
  // Reads each BATON_* variable; an unknown one is an error.
  absl::Status ApplyEnvironment(const std::map<std::string, std::string>& environment);
  absl::Status ApplyFlag(std::string_view key, std::string_view value);

  const std::vector<ConfigEntry>& entries() const { return entries_; }
  // YAML that reproduces the configuration, each line with its source as a comment.
  std::string Print() const;

 private:
  ConfigEntry& Add(std::string key, std::string help, std::string allowed);
  ConfigEntry* Find(std::string_view key);
  std::vector<std::string> KnownKeys() const;
  absl::Status Set(ConfigEntry& entry, std::string_view value, const std::string& source);

  std::vector<ConfigEntry> entries_;
};

// The candidate with the smallest edit distance to `word`, or "" when none is near.
std::string NearestWord(std::string_view word, const std::vector<std::string>& candidates);

// `unknown key "prot"; did you mean "port"?`, where `what` is "key".
std::string UnknownWord(std::string_view what, std::string_view word,
                        const std::vector<std::string>& known);

// The BATON_* part of the process's environment.
std::map<std::string, std::string> BatonEnvironment();

}  // namespace baton
