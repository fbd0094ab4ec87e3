// The methods of Python's str and dict, and loop.cycle.
#pragma once

#include <string_view>

#include "absl/status/statusor.h"
#include "engine/tokenizer/jinja/arguments.h"
#include "engine/tokenizer/jinja/value.h"

namespace baton::jinja {

bool IsStringMethod(std::string_view name);
bool IsDictMethod(std::string_view name);  // all that Python's dict has, called or not
bool IsMethod(std::string_view name);      // one that CallMethod knows for some type

absl::StatusOr<Value> CallMethod(const Value& object, std::string_view name,
                                 const Arguments& arguments);

}  // namespace baton::jinja
