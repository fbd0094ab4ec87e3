// Jinja's tests ("x is name(arguments)").
#pragma once

#include <string_view>

#include "absl/status/statusor.h"
#include "engine/tokenizer/jinja/arguments.h"
#include "engine/tokenizer/jinja/value.h"

namespace baton::jinja {

bool IsTest(std::string_view name);
// REQUIRES: IsTest(name).
absl::StatusOr<bool> ApplyTest(std::string_view name, const Value& subject,
                               const Arguments& arguments);

}  // namespace baton::jinja
