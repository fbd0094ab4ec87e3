// A Jinja template, in the dialect that Hugging Face chat templates use.
#pragma once

#include <memory>
#include <string>
#include <string_view>

#include "absl/status/statusor.h"
#include "engine/tokenizer/jinja/value.h"

namespace baton::jinja {

inline constexpr size_t kMaxTemplateBytes = size_t{1} << 20;

// Immutable after Parse and thread-safe.
class Template {
 public:
  // INVALID_ARGUMENT names the line: a syntax error, or something outside the dialect.
  static absl::StatusOr<std::unique_ptr<Template>> Parse(std::string_view source);
  ~Template();

  // `context` must be a dict. Pure: the same context gives the same text.
  absl::StatusOr<std::string> Render(const Value& context) const;

 private:
  struct Impl;
  explicit Template(std::unique_ptr<Impl> impl);
  std::unique_ptr<Impl> impl_;
};

}  // namespace baton::jinja
