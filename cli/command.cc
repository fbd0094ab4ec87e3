#include "cli/command.h"

#include <arpa/inet.h>
#include <CLI/CLI.hpp>
#include <algorithm>
#include <cstdio>
#include <fstream>
#include <sstream>
#include <utility>

#include "absl/strings/str_cat.h"
#include "absl/strings/str_split.h"
#include "common/check.h"

namespace baton {
namespace {

// "baton bench serve"
std::string FullName(const CLI::App& command) {
  const CLI::App* parent = command.get_parent();
  return parent == nullptr ? command.get_name()
                           : absl::StrCat(FullName(*parent), " ", command.get_name());
}

// The innermost command that was named.
const CLI::App& Innermost(const CLI::App& app) {
  const std::vector<CLI::App*> chosen = app.get_subcommands();
  return chosen.empty() ? app : Innermost(*chosen.front());
}

// "Kv", "Http": the help's group of a setting, from its YAML section.
std::string GroupOf(const std::string& key) {
  const size_t dot = key.find('.');
  return dot == std::string::npos ? "Options" : absl::StrCat("Options: ", key.substr(0, dot));
}

absl::StatusOr<std::string> ReadFile(const std::string& path) {
  std::ifstream file(path, std::ios::binary);
  if (!file) return absl::NotFoundError(absl::StrCat("cannot read ", path));
  std::ostringstream text;
  text << file.rdbuf();
  return text.str();
}

}  // namespace

LogLevel LogSettings::ToLevel() const {
  if (level == "debug") return LogLevel::kDebug;
  if (level == "warning") return LogLevel::kWarning;
  if (level == "error") return LogLevel::kError;
  return LogLevel::kInfo;
}

void AddLogSettings(ConfigSchema& schema, LogSettings* settings) {
  schema.AddChoice("log.level", &settings->level, {"debug", "info", "warning", "error"},
                   "Least severe level that is written");
  schema.AddBool("log.json", &settings->json, "Write logs as JSON lines");
}

absl::Status CheckLoopback(const std::string& key, const std::string& host, bool allowed,
                           const std::string& remedy) {
  in_addr v4 = {};
  const bool is_127 =
      inet_pton(AF_INET, host.c_str(), &v4) == 1 && ntohl(v4.s_addr) >> 24 == IN_LOOPBACKNET;
  if (is_127 || host == "localhost" || host == "::1" || allowed) return absl::OkStatus();
  return absl::InvalidArgumentError(absl::StrCat(
      key, ": ", host, " is not a loopback address and the connection is not encrypted; ", remedy));
}

int ReportParseError(const CLI::App& app, const CLI::ParseError& error) {
  const CLI::App& command = Innermost(app);
  if (error.get_exit_code() == 0) return app.exit(error);
  // `baton` or `baton bench` alone
  if (!command.get_subcommands({}).empty() && app.remaining(/*recurse=*/true).empty()) {
    std::fputs(command.help().c_str(), stderr);
    return 2;
  }
  const std::string name = FullName(command);
  std::string message = error.what();
  if (error.get_name() == "ArgumentMismatch") {
    // CLI11 says "At Most 1 required but received 2" of a flag that came twice.
    const bool twice = message.find("At Most") != std::string::npos;
    message = absl::StrCat(message.substr(0, message.find(':')),
                           twice ? " is given more than once" : " needs a value");
  }
  std::vector<std::string> known;
  for (const CLI::Option* option : command.get_options()) known.push_back(option->get_name());
  for (const CLI::App* subcommand : command.get_subcommands({})) {
    known.push_back(subcommand->get_name());
  }
  // CLI11 lists what it did not take backwards, values of unknown flags among it.
  const std::vector<std::string> extras = app.remaining(/*recurse=*/true);
  const auto wrong = std::find_if(extras.rbegin(), extras.rend(),
                                  [](const std::string& word) { return word.starts_with("-"); });
  if (!extras.empty()) {
    const std::string word = wrong != extras.rend() ? *wrong : extras.back();
    const std::string nearest = NearestWord(word.substr(0, word.find('=')), known);
    message = absl::StrCat("unknown argument \"", word, "\"");
    if (!nearest.empty()) absl::StrAppend(&message, "; did you mean \"", nearest, "\"?");
  }
  std::fprintf(stderr, "%s: %s\n`%s --help` lists what it takes.\n", name.c_str(), message.c_str(),
               name.c_str());
  return 2;
}

bool Command::IsSet(std::string_view key) const {
  return std::ranges::any_of(schema_.entries(), [&](const ConfigEntry& entry) {
    return entry.key == key && entry.source != "default";
  });
}

BoundCommand::BoundCommand(CLI::App& app, Command& command) : command_(command) {
  command_.Describe(command_.schema());
  app_ = app.add_subcommand(command_.name(), command_.summary());
  app_->add_option("--config", config_file_, "YAML file; flags and BATON_* variables override it");
  app_->add_flag("--check-config", check_config_, "Validate the configuration and exit");
  app_->add_flag("--print-config", print_config_,
                 "Print the configuration with the source of each value and exit");
  if (!command_.footer().empty()) app_->footer(command_.footer());
  for (const Command::Positional& word : command_.Positionals()) {
    app_->add_option(word.name, *word.field, word.help)->required()->type_name("");
  }
  const std::vector<ConfigEntry>& entries = command_.schema().entries();
  flags_.resize(entries.size());
  for (size_t i = 0; i < entries.size(); ++i) {
    const ConfigEntry& entry = entries[i];
    flags_[i].key = entry.key;
    const std::string shown = entry.show();
    std::string help = entry.help;
    if (!entry.is_flag && !shown.empty()) absl::StrAppend(&help, " [", shown, "]");
    CLI::Option* option = entry.is_flag ? app_->add_flag(entry.FlagName(), flags_[i].value, help)
                                        : app_->add_option(entry.FlagName(), flags_[i].value, help);
    option->group(GroupOf(entry.key));
    option->type_name("");
    for (const std::string& key : command_.Repeatable()) {
      if (key == entry.key) option->multi_option_policy(CLI::MultiOptionPolicy::Join);
    }
  }
}

bool BoundCommand::chosen() const { return app_->parsed(); }

absl::Status BoundCommand::Configure() {
  ConfigSchema& schema = command_.schema();
  if (!config_file_.empty()) {
    ASSIGN_OR_RETURN(const std::string text, ReadFile(config_file_));
    RETURN_IF_ERROR(schema.ApplyYaml(text, config_file_));
  }
  RETURN_IF_ERROR(schema.ApplyEnvironment(BatonEnvironment()));
  for (size_t i = 0; i < flags_.size(); ++i) {
    const std::string flag = schema.entries()[i].FlagName();
    if (app_->count(flag) > 0) RETURN_IF_ERROR(schema.ApplyFlag(flags_[i].key, flags_[i].value));
  }
  return command_.Validate();
}

void BoundCommand::Complain(const absl::Status& status) const {
  std::fprintf(stderr, "%s: %s\n", FullName(*app_).c_str(), std::string(status.message()).c_str());
}

int BoundCommand::Run() {
  if (const absl::Status status = Configure(); !status.ok()) {
    Complain(status);
    return 2;
  }
  if (print_config_) {
    std::fputs(command_.schema().Print().c_str(), stdout);
    return 0;
  }
  if (check_config_) {
    std::puts("configuration OK");
    return 0;
  }
  const absl::StatusOr<int> result = command_.Run();
  if (!result.ok()) {
    Complain(result.status());
    return 1;
  }
  return *result;
}

}  // namespace baton
