#include "engine/tokenizer/jinja/arguments.h"

#include <algorithm>

#include "absl/status/status.h"
#include "absl/strings/str_cat.h"
#include "common/strings.h"

namespace baton::jinja {

absl::StatusOr<BoundArguments> BoundArguments::Bind(const Arguments& arguments,
                                                    std::span<const std::string_view> parameters) {
  BoundArguments bound;
  bound.parameters_ = parameters;
  bound.values_.assign(parameters.size(), nullptr);
  if (arguments.positional.size() > parameters.size()) {
    return absl::InvalidArgumentError(absl::StrCat(arguments.positional.size(),
                                                   " arguments are given, at most ",
                                                   parameters.size(), " are taken"));
  }
  for (size_t i = 0; i < arguments.positional.size(); ++i) {
    bound.values_[i] = &arguments.positional[i];
  }
  for (const auto& [name, value] : arguments.named) {
    const auto at = std::find(parameters.begin(), parameters.end(), name);
    if (at == parameters.end()) {
      return absl::InvalidArgumentError(absl::StrCat("there is no argument \"", View(name), "\""));
    }
    const Value*& slot = bound.values_[static_cast<size_t>(at - parameters.begin())];
    if (slot != nullptr) {
      return absl::InvalidArgumentError(
          absl::StrCat("the argument \"", View(name), "\" is given twice"));
    }
    slot = &value;
  }
  return bound;
}

absl::StatusOr<Value> BoundArguments::Get(size_t index) const {
  if (values_[index] != nullptr) return *values_[index];
  return absl::InvalidArgumentError(
      absl::StrCat("the argument \"", View(parameters_[index]), "\" is missing"));
}

absl::StatusOr<std::string> BoundArguments::Text(size_t index, std::string_view if_absent) const {
  const Value* value = values_[index];
  if (value == nullptr || value->IsNone()) return std::string(if_absent);
  if (value->IsString()) return value->text();
  return absl::InvalidArgumentError(absl::StrCat("the argument \"", View(parameters_[index]),
                                                 "\" must be a string, not ",
                                                 View(value->TypeName())));
}

absl::StatusOr<int64_t> BoundArguments::Integer(size_t index, int64_t if_absent) const {
  const Value* value = values_[index];
  if (value == nullptr || value->IsNone()) return if_absent;
  if (value->IsIntegral()) return value->integer();
  return absl::InvalidArgumentError(absl::StrCat("the argument \"", View(parameters_[index]),
                                                 "\" must be an integer, not ",
                                                 View(value->TypeName())));
}

bool BoundArguments::Flag(size_t index, bool if_absent) const {
  return values_[index] == nullptr ? if_absent : values_[index]->Truth();
}

}  // namespace baton::jinja
