// What every subcommand shares: settings bound to flags, environment and file; --check-config and
// --print-config; the logger.
#pragma once

#include <functional>
#include <string>
#include <string_view>
#include <vector>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "common/config.h"
#include "common/log.h"

namespace CLI {
class App;
class ParseError;
}  // namespace CLI

namespace baton {

struct LogSettings {
  std::string level = "info";
  bool json = false;

  LogLevel ToLevel() const;
  LogFormat ToFormat() const { return json ? LogFormat::kJson : LogFormat::kText; }
};

void AddLogSettings(ConfigSchema& schema, LogSettings* settings);

// The security floor: an address other than loopback must be `allowed`, by TLS or by name.
// INVALID_ARGUMENT with the `remedy` otherwise.
absl::Status CheckLoopback(const std::string& key, const std::string& host, bool allowed,
                           const std::string& remedy);

// Prints help or version where that is what was asked for; else one line that says what is wrong
// with the command line. Returns the exit status.
int ReportParseError(const CLI::App& app, const CLI::ParseError& error);

// One subcommand. `Describe` binds the settings to fields of the derived class; `Run` is called
// with them filled in and validated.
class Command {
 public:
  virtual ~Command() = default;
  virtual std::string name() const = 0;
  virtual std::string summary() const = 0;           // one line for `baton --help`
  virtual std::string footer() const { return ""; }  // examples, after the command's own help
  virtual void Describe(ConfigSchema& schema) = 0;
  // Where the command takes a word without a flag: {"prompt", "what to complete", &field}.
  struct Positional {
    std::string name;
    std::string help;
    std::string* field;
  };
  virtual std::vector<Positional> Positionals() { return {}; }
  // Keys of text settings whose flag may be given several times: the values arrive as lines.
  virtual std::vector<std::string> Repeatable() const { return {}; }
  // What single settings cannot know: combinations, required values.
  virtual absl::Status Validate() const { return absl::OkStatus(); }
  // The process's exit status.
  virtual absl::StatusOr<int> Run() = 0;

  ConfigSchema& schema() { return schema_; }
  // Whether somebody set `key`, to whatever value.
  bool IsSet(std::string_view key) const;

 private:
  ConfigSchema schema_;
};

// Adds the subcommand to `app`. After parsing, RunCommand applies file, environment and flags and
// runs it.
class BoundCommand {
 public:
  BoundCommand(CLI::App& app, Command& command);
  bool chosen() const;
  int Run();

 private:
  absl::Status Configure();
  // "baton bench serve: why" on stderr.
  void Complain(const absl::Status& status) const;

  struct FlagValue {
    std::string key;
    std::string value;
    bool given = false;
  };
  Command& command_;
  CLI::App* app_;
  std::vector<FlagValue> flags_;  // one for each setting; addresses are bound, never resized
  std::string config_file_;
  bool check_config_ = false;
  bool print_config_ = false;
};

}  // namespace baton
