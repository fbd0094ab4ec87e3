// A place in a JSON document that knows its own name, so that every error can say
// "tokenizer.json: field model.merges[17]: …". Used only in .cc files: it includes the JSON
// library.
#pragma once

#include <cstdint>
#include <initializer_list>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "nlohmann/json.hpp"

namespace baton {

// Reads and parses a whole file. Errors: NOT_FOUND, INVALID_ARGUMENT (over `max_bytes`, not JSON,
// nested too deeply).
absl::StatusOr<nlohmann::json> ReadJsonFile(const std::string& path, size_t max_bytes);

// A view: the document and `file` must outlive it.
class JsonField {
 public:
  JsonField(const nlohmann::json& node, std::string_view file) : node_(&node), file_(file) {}

  const nlohmann::json& node() const { return *node_; }
  const std::string& path() const { return path_; }
  bool IsNull() const { return node_->is_null(); }

  absl::Status Error(std::string_view what) const;

  // The member `key`; nullopt when it is absent or null. REQUIRES: this is an object.
  std::optional<JsonField> Find(std::string_view key) const;
  absl::StatusOr<JsonField> Get(std::string_view key) const;

  absl::Status ExpectObject() const;
  // An object with no member outside `allowed`.
  absl::Status ExpectKeys(std::initializer_list<std::string_view> allowed) const;
  absl::StatusOr<std::vector<JsonField>> Elements() const;

  absl::StatusOr<std::string> String() const;
  absl::StatusOr<int64_t> Integer(int64_t low, int64_t high) const;

  absl::StatusOr<std::string> GetString(std::string_view key) const;
  absl::StatusOr<bool> GetBool(std::string_view key, bool if_absent) const;

 private:
  JsonField(const nlohmann::json& node, std::string_view file, std::string path)
      : node_(&node), file_(file), path_(std::move(path)) {}
  JsonField Child(const nlohmann::json& node, std::string_view key) const;

  const nlohmann::json* node_;
  std::string_view file_;
  std::string path_;
};

}  // namespace baton
