// Cuts a template into text and tag tokens, with Jinja's white-space control applied.
#pragma once

#include <cstdint>
#include <string>
#include <string_view>
#include <vector>

#include "absl/status/statusor.h"

namespace baton::jinja {

enum class TokenKind {
  kText,           // between tags
  kVariableBegin,  // {{
  kVariableEnd,
  kBlockBegin,  // {%
  kBlockEnd,
  kName,
  kString,
  kInteger,
  kFloat,
  kOperator,
  kEnd,  // always the last token
};

struct Token {
  TokenKind kind = TokenKind::kEnd;
  int32_t line = 1;
  std::string text;  // text, name, operator, or a string's value
  int64_t integer = 0;
  double number = 0.0;
};

// trim_blocks and lstrip_blocks are on and one newline at the template's end is dropped, as
// `transformers` sets Jinja up. REQUIRES: well-formed UTF-8.
absl::StatusOr<std::vector<Token>> Tokenize(std::string_view source);

// "chat template line 12: …", INVALID_ARGUMENT.
absl::Status ErrorAt(int32_t line, std::string_view message);

}  // namespace baton::jinja
