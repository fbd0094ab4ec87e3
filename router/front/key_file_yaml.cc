// The YAML of the key file.

#include <yaml-cpp/yaml.h>

#include <set>

#include "absl/strings/str_cat.h"
#include "common/check.h"
#include "common/config.h"
#include "common/strings.h"
#include "router/front/key_ring.h"

namespace baton {
namespace {

constexpr size_t kMaxNameBytes = 64;
constexpr int32_t kMaxRequestsPerMinute = 1 << 24;

// What is wrong with one key; thrown and caught in this file, as yaml-cpp's own are.
struct Problem {
  int line = 0;
  std::string what;
};

int LineOf(const YAML::Node& node) { return node.Mark().line + 1; }

// Names go into logs and metrics.
bool IsPlainName(const std::string& name) {
  if (name.empty() || name.size() > kMaxNameBytes) return false;
  for (const char c : name) {
    if (c <= 0x20 || c >= 0x7F || c == '"' || c == '\\') return false;
  }
  return true;
}

void ReadField(const std::string& field, const YAML::Node& value, ApiKey& key) {
  const std::vector<std::string> known = {"name", "sha256", "tenant", "requests_per_minute",
                                          "admin"};
  if (field == "name" || field == "tenant") {
    (field == "name" ? key.name : key.tenant) = value.as<std::string>();
    if (!IsPlainName(value.as<std::string>())) {
      throw Problem{LineOf(value), absl::StrCat(field, " must be 1 to ", kMaxNameBytes,
                                                " printable characters without spaces or quotes")};
    }
  } else if (field == "sha256") {
    // The value is not repeated: somebody may have put the key itself there.
    const auto digest = DigestFromHex(value.as<std::string>());
    if (!digest) throw Problem{LineOf(value), "sha256 must be 64 hexadecimal digits"};
    key.sha256 = *digest;
  } else if (field == "requests_per_minute") {
    key.requests_per_minute = value.as<int32_t>();
    if (key.requests_per_minute < 1 || key.requests_per_minute > kMaxRequestsPerMinute) {
      throw Problem{LineOf(value),
                    absl::StrCat("requests_per_minute must be 1 to ", kMaxRequestsPerMinute)};
    }
  } else if (field == "admin") {
    key.admin = value.as<bool>();
  } else {
    const std::string near = NearestWord(field, known);
    throw Problem{LineOf(value),
                  absl::StrCat("a key has no field \"", field, "\"",
                               near.empty() ? "" : absl::StrCat("; did you mean ", near, "?"))};
  }
}

ApiKey ReadKey(const YAML::Node& node) {
  if (!node.IsMap()) throw Problem{LineOf(node), "a key must be a map with name and sha256"};
  ApiKey key;
  for (const auto& field : node) ReadField(field.first.as<std::string>(), field.second, key);
  if (!node["name"] || !node["sha256"]) {
    throw Problem{LineOf(node), "a key needs name and sha256"};
  }
  if (key.tenant.empty()) key.tenant = key.name;
  return key;
}

std::vector<ApiKey> ReadKeys(const YAML::Node& root) {
  const YAML::Node list = root.IsMap() ? root["keys"] : YAML::Node();
  if (!list || !list.IsSequence() || root.size() != 1) {
    throw Problem{1, "the file must hold one list named keys"};
  }
  if (list.size() > kMaxApiKeys) {
    throw Problem{LineOf(list),
                  absl::StrCat("there are ", list.size(), " keys, at most ", kMaxApiKeys)};
  }
  std::vector<ApiKey> keys;
  std::set<std::string> names;
  std::set<Sha256Digest> digests;
  for (const YAML::Node& node : list) {
    keys.push_back(ReadKey(node));
    if (!names.insert(keys.back().name).second) {
      throw Problem{LineOf(node), absl::StrCat("the name ", keys.back().name, " is there twice")};
    }
    if (!digests.insert(keys.back().sha256).second) {
      throw Problem{LineOf(node), "the same sha256 is there twice"};
    }
  }
  return keys;
}

}  // namespace

absl::StatusOr<std::vector<ApiKey>> ParseApiKeys(const std::string& yaml, const std::string& file) {
  const auto refuse = [&](int line, std::string_view what) {
    return absl::InvalidArgumentError(absl::StrCat(file, ":", line, ": ", View(what)));
  };
  try {
    return ReadKeys(YAML::Load(yaml));
  } catch (const Problem& problem) {
    return refuse(problem.line, problem.what);
  } catch (const YAML::Exception& error) {
    // Its message may repeat the value, which may be a key.
    return refuse(error.mark.line + 1, "not the YAML that is expected here");
  }
}

}  // namespace baton
