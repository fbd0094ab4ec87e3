#include "common/config.h"

#include <unistd.h>
#include <yaml-cpp/yaml.h>

#include <algorithm>
#include <charconv>
#include <cmath>
#include <optional>
#include <system_error>
#include <utility>

#include "absl/strings/ascii.h"
#include "absl/strings/numbers.h"
#include "absl/strings/str_cat.h"
#include "absl/strings/str_join.h"
#include "absl/strings/str_replace.h"
#include "absl/strings/str_split.h"
#include "common/check.h"
#include "common/config_yaml.h"
#include "common/strings.h"

namespace baton {
namespace {

constexpr std::string_view kEnvironmentPrefix = "BATON_";

absl::Status NotAllowed(std::string_view value, std::string_view allowed) {
  return absl::InvalidArgumentError(
      absl::StrCat("\"", View(value), "\" is not allowed; expected ", View(allowed)));
}

struct Unit {
  std::string_view suffix;
  int64_t factor;
};
constexpr Unit kByteUnits[] = {{"TiB", int64_t{1} << 40},
                               {"GiB", int64_t{1} << 30},
                               {"MiB", int64_t{1} << 20},
                               {"KiB", int64_t{1} << 10},
                               {"GB", 1000000000},
                               {"MB", 1000000},
                               {"KB", 1000},
                               {"B", 1},
                               {"", 1}};

std::optional<int64_t> ParseBytes(std::string_view text) {
  for (const Unit& unit : kByteUnits) {
    if (!text.ends_with(unit.suffix)) continue;
    double number = 0;
    const std::string_view digits = text.substr(0, text.size() - unit.suffix.size());
    if (!absl::SimpleAtod(View(digits), &number) || !std::isfinite(number) || number < 0) {
      return std::nullopt;
    }
    const double bytes = number * static_cast<double>(unit.factor);
    if (bytes > 9e18) return std::nullopt;
    return static_cast<int64_t>(bytes);
  }
  return std::nullopt;
}

std::string ShowBytes(int64_t bytes) {
  for (const Unit& unit : kByteUnits) {
    const bool binary = unit.suffix.size() == 3;
    if (binary && bytes >= unit.factor && bytes % unit.factor == 0) {
      return absl::StrCat(bytes / unit.factor, View(unit.suffix));
    }
  }
  return absl::StrCat(bytes);
}

// The shortest text that reads back equal.
std::string ShowDouble(double value) {
  char buffer[32];
  const auto [end, error] = std::to_chars(buffer, buffer + sizeof(buffer), value);
  BATON_CHECK(error == std::errc()) << value;
  return {buffer, end};
}

// Insertions, deletions, substitutions and swaps of neighbours, each at 1.
size_t EditDistance(std::string_view a, std::string_view b) {
  std::vector<size_t> before(b.size() + 1), last(b.size() + 1), row(b.size() + 1);
  for (size_t j = 0; j <= b.size(); ++j) row[j] = j;
  for (size_t i = 1; i <= a.size(); ++i) {
    before.swap(last);
    last.swap(row);
    row[0] = i;
    for (size_t j = 1; j <= b.size(); ++j) {
      const size_t substitute = last[j - 1] + (a[i - 1] == b[j - 1] ? 0 : 1);
      row[j] = std::min({substitute, last[j] + 1, row[j - 1] + 1});
      const bool swapped = i > 1 && j > 1 && a[i - 1] == b[j - 2] && a[i - 2] == b[j - 1];
      if (swapped) row[j] = std::min(row[j], before[j - 2] + 1);
    }
  }
  return row[b.size()];
}

}  // namespace

std::string ConfigEntry::FlagName() const {
  return absl::StrCat("--", absl::StrReplaceAll(key, {{".", "-"}, {"_", "-"}}));
}

std::string ConfigEntry::EnvironmentName() const {
  return absl::StrCat(View(kEnvironmentPrefix),
                      absl::AsciiStrToUpper(absl::StrReplaceAll(key, {{".", "_"}})));
}

ConfigEntry& ConfigSchema::Add(std::string key, std::string help, std::string allowed) {
  BATON_CHECK(Find(key) == nullptr) << "setting registered twice: " << key;
  ConfigEntry entry;
  entry.key = std::move(key);
  entry.help = std::move(help);
  entry.allowed = std::move(allowed);
  entries_.push_back(std::move(entry));
  return entries_.back();
}

void ConfigSchema::AddInt(std::string key, int32_t* field, int32_t min, int32_t max,
                          std::string help) {
  ConfigEntry& entry =
      Add(std::move(key), std::move(help), absl::StrCat("a whole number from ", min, " to ", max));
  entry.parse = [field, min, max, allowed = entry.allowed](std::string_view value) {
    int32_t parsed = 0;
    if (!absl::SimpleAtoi(View(value), &parsed) || parsed < min || parsed > max) {
      return NotAllowed(value, allowed);
    }
    *field = parsed;
    return absl::OkStatus();
  };
  entry.show = [field] { return absl::StrCat(*field); };
}

void ConfigSchema::AddDouble(std::string key, double* field, double min, double max,
                             std::string help) {
  ConfigEntry& entry =
      Add(std::move(key), std::move(help), absl::StrCat("a number from ", min, " to ", max));
  entry.parse = [field, min, max, allowed = entry.allowed](std::string_view value) {
    double parsed = 0;
    if (!absl::SimpleAtod(View(value), &parsed) || !(parsed >= min && parsed <= max)) {
      return NotAllowed(value, allowed);
    }
    *field = parsed;
    return absl::OkStatus();
  };
  entry.show = [field] { return ShowDouble(*field); };
}

void ConfigSchema::AddBool(std::string key, bool* field, std::string help) {
  ConfigEntry& entry = Add(std::move(key), std::move(help), "true or false");
  entry.is_flag = true;
  entry.parse = [field, allowed = entry.allowed](std::string_view value) {
    bool parsed = false;
    if (!absl::SimpleAtob(View(value), &parsed)) return NotAllowed(value, allowed);
    *field = parsed;
    return absl::OkStatus();
  };
  entry.show = [field] { return std::string(*field ? "true" : "false"); };
}

void ConfigSchema::AddString(std::string key, std::string* field, std::string help) {
  ConfigEntry& entry = Add(std::move(key), std::move(help), "");
  entry.parse = [field](std::string_view value) {
    *field = std::string(value);
    return absl::OkStatus();
  };
  entry.show = [field] { return *field; };
}

void ConfigSchema::AddSecret(std::string key, std::string* field, std::string help) {
  AddString(std::move(key), field, std::move(help));
  entries_.back().show = [field] { return std::string(field->empty() ? "" : "(set)"); };
}

void ConfigSchema::AddChoice(std::string key, std::string* field, std::vector<std::string> choices,
                             std::string help) {
  ConfigEntry& entry =
      Add(std::move(key), std::move(help), absl::StrCat("one of ", absl::StrJoin(choices, ", ")));
  entry.parse = [field, choices = std::move(choices),
                 allowed = entry.allowed](std::string_view value) {
    if (std::find(choices.begin(), choices.end(), value) == choices.end()) {
      return NotAllowed(value, allowed);
    }
    *field = std::string(value);
    return absl::OkStatus();
  };
  entry.show = [field] { return *field; };
}

void ConfigSchema::AddBytes(std::string key, int64_t* field, int64_t min, int64_t max,
                            std::string help) {
  ConfigEntry& entry =
      Add(std::move(key), std::move(help),
          absl::StrCat("a size from ", ShowBytes(min), " to ", ShowBytes(max), ", such as 512MiB"));
  entry.parse = [field, min, max, allowed = entry.allowed](std::string_view value) {
    const std::optional<int64_t> parsed = ParseBytes(value);
    if (!parsed || *parsed < min || *parsed > max) return NotAllowed(value, allowed);
    *field = *parsed;
    return absl::OkStatus();
  };
  entry.show = [field] { return ShowBytes(*field); };
}

void ConfigSchema::AddDuration(std::string key, absl::Duration* field, absl::Duration min,
                               absl::Duration max, std::string help) {
  ConfigEntry& entry = Add(std::move(key), std::move(help),
                           absl::StrCat("a time from ", absl::FormatDuration(min), " to ",
                                        absl::FormatDuration(max), ", such as 250ms or 3s"));
  entry.parse = [field, min, max, allowed = entry.allowed](std::string_view value) {
    absl::Duration parsed;
    if (!absl::ParseDuration(View(value), &parsed) || parsed < min || parsed > max) {
      return NotAllowed(value, allowed);
    }
    *field = parsed;
    return absl::OkStatus();
  };
  entry.show = [field] { return absl::FormatDuration(*field); };
}

void ConfigSchema::AddList(std::string key, std::vector<std::string>* field, std::string help) {
  ConfigEntry& entry = Add(std::move(key), std::move(help), "a comma-separated list");
  entry.parse = [field](std::string_view value) {
    *field = absl::StrSplit(View(value), ',', absl::SkipWhitespace());
    for (std::string& part : *field) part = std::string(absl::StripAsciiWhitespace(part));
    return absl::OkStatus();
  };
  entry.show = [field] { return absl::StrJoin(*field, ","); };
}

void ConfigSchema::AddIntList(std::string key, std::vector<int32_t>* field, std::string help) {
  ConfigEntry& entry =
      Add(std::move(key), std::move(help), "a comma-separated list of whole numbers");
  entry.parse = [field, allowed = entry.allowed](std::string_view value) {
    std::vector<int32_t> numbers;
    const std::vector<std::string> parts = absl::StrSplit(View(value), ',', absl::SkipWhitespace());
    for (const std::string& part : parts) {
      int32_t number = 0;
      if (!absl::SimpleAtoi(part, &number)) return NotAllowed(value, allowed);
      numbers.push_back(number);
    }
    *field = std::move(numbers);
    return absl::OkStatus();
  };
  entry.show = [field] { return absl::StrJoin(*field, ","); };
}

absl::Status ConfigSchema::ApplyYaml(const std::string& text, const std::string& file) {
  ASSIGN_OR_RETURN(const std::vector<YamlLeaf> leaves, ReadYaml(text, file, KnownKeys()));
  for (const YamlLeaf& leaf : leaves) {
    RETURN_IF_ERROR(Set(*Find(leaf.key), leaf.value, absl::StrCat(file, ":", leaf.line)));
  }
  return absl::OkStatus();
}

absl::Status ConfigSchema::ApplyEnvironment(const std::map<std::string, std::string>& environment) {
  for (const auto& [name, value] : environment) {
    auto entry = std::find_if(entries_.begin(), entries_.end(), [&name = name](const auto& known) {
      return known.EnvironmentName() == name;
    });
    if (entry == entries_.end()) {
      std::vector<std::string> names;
      for (const ConfigEntry& known : entries_) names.push_back(known.EnvironmentName());
      return absl::InvalidArgumentError(UnknownWord("environment variable", name, names));
    }
    RETURN_IF_ERROR(Set(*entry, value, absl::StrCat("environment ", name)));
  }
  return absl::OkStatus();
}

absl::Status ConfigSchema::ApplyFlag(std::string_view key, std::string_view value) {
  ConfigEntry* entry = Find(key);
  if (entry == nullptr) return absl::InvalidArgumentError(UnknownWord("setting", key, KnownKeys()));
  return Set(*entry, value, absl::StrCat("flag ", entry->FlagName()));
}

std::string ConfigSchema::Print() const {
  std::string out;
  std::string section;
  for (const ConfigEntry& entry : entries_) {
    const std::vector<std::string> parts = absl::StrSplit(entry.key, absl::MaxSplits('.', 1));
    const bool nested = parts.size() == 2;
    if (nested && parts[0] != section) absl::StrAppend(&out, parts[0], ":\n");
    section = nested ? parts[0] : "";
    const std::string value = entry.show();
    YAML::Emitter quoted;
    quoted << value;
    absl::StrAppend(&out, nested ? "  " : "", nested ? parts[1] : parts[0], ": ",
                    value.empty() ? "\"\"" : quoted.c_str(), "  # ", entry.source, "\n");
  }
  return out;
}

ConfigEntry* ConfigSchema::Find(std::string_view key) {
  for (ConfigEntry& entry : entries_) {
    if (entry.key == key) return &entry;
  }
  return nullptr;
}

std::vector<std::string> ConfigSchema::KnownKeys() const {
  std::vector<std::string> keys;
  for (const ConfigEntry& entry : entries_) keys.push_back(entry.key);
  return keys;
}

absl::Status ConfigSchema::Set(ConfigEntry& entry, std::string_view value,
                               const std::string& source) {
  if (const absl::Status status = entry.parse(value); !status.ok()) {
    return absl::InvalidArgumentError(
        absl::StrCat(source, ": ", entry.key, ": ", status.message()));
  }
  entry.source = source;
  return absl::OkStatus();
}

std::string NearestWord(std::string_view word, const std::vector<std::string>& candidates) {
  std::string nearest;
  size_t best = std::max<size_t>(2, word.size() / 3) + 1;
  for (const std::string& candidate : candidates) {
    const size_t distance = EditDistance(word, candidate);
    if (distance < best) {
      best = distance;
      nearest = candidate;
    }
  }
  return nearest;
}

std::string UnknownWord(std::string_view what, std::string_view word,
                        const std::vector<std::string>& known) {
  const std::string nearest = NearestWord(word, known);
  return absl::StrCat("unknown ", View(what), " \"", View(word), "\"",
                      nearest.empty() ? "" : absl::StrCat("; did you mean \"", nearest, "\"?"));
}

std::map<std::string, std::string> BatonEnvironment() {
  std::map<std::string, std::string> found;
  for (char** variable = environ; *variable != nullptr; ++variable) {
    const std::string_view text(*variable);
    const size_t equals = text.find('=');
    if (!text.starts_with(kEnvironmentPrefix) || equals == std::string_view::npos) continue;
    found.emplace(text.substr(0, equals), text.substr(equals + 1));
  }
  return found;
}

}  // namespace baton
