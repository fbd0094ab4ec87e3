// Text as Python treats it: white space, literals, str() and repr().
#pragma once

#include <string>
#include <string_view>

#include "absl/status/statusor.h"
#include "engine/tokenizer/jinja/value.h"

namespace baton::jinja {

// Texts longer than this are not made: the rendering fails.
inline constexpr size_t kMaxTextBytes = size_t{64} << 20;
absl::Status TextTooLong();

// The length of the white space (str.isspace) that `text` begins with.
size_t SpacePrefixBytes(std::string_view text);
std::string_view StripLeft(std::string_view text);
std::string_view StripRight(std::string_view text);
// Strip the characters in `characters`, as str.lstrip(characters).
std::string_view StripLeft(std::string_view text, std::string_view characters);
std::string_view StripRight(std::string_view text, std::string_view characters);

// The escapes of a Python string literal.
absl::StatusOr<std::string> UnescapePython(std::string_view literal);

std::string FloatRepr(double value);
std::string StringRepr(std::string_view text);

// str(value): what {{ value }} prints. Fails for objects that have no sensible text.
absl::StatusOr<std::string> Str(const Value& value);

}  // namespace baton::jinja
