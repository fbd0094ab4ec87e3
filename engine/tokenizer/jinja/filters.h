// Jinja's filters ("x | name(arguments)").
#pragma once

#include <string_view>
#include <vector>

#include "absl/status/statusor.h"
#include "engine/tokenizer/jinja/arguments.h"
#include "engine/tokenizer/jinja/value.h"

namespace baton::jinja {

bool IsFilter(std::string_view name);
// REQUIRES: IsFilter(name).
absl::StatusOr<Value> ApplyFilter(std::string_view name, const Value& input,
                                  const Arguments& arguments);

// One filter with fixed parameters.
struct Filter {
  std::string_view name;
  absl::StatusOr<Value> (*apply)(const Value& input, const BoundArguments& arguments);
  std::vector<std::string_view> parameters;
};
const std::vector<Filter>& TextFilters();  // filters_text.cc: texts and numbers
const std::vector<Filter>& ListFilters();  // filters_list.cc: lists and dicts

}  // namespace baton::jinja
