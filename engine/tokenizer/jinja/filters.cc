// The table of filters, and those that take other filters or tests as arguments.
#include "engine/tokenizer/jinja/filters.h"

#include "absl/status/status.h"
#include "absl/strings/str_cat.h"
#include "common/check.h"
#include "common/strings.h"
#include "engine/tokenizer/jinja/operators.h"
#include "engine/tokenizer/jinja/tests.h"

namespace baton::jinja {
namespace {

const Filter* FindFilter(std::string_view name) {
  for (const std::vector<Filter>* table : {&TextFilters(), &ListFilters()}) {
    for (const Filter& filter : *table) {
      if (filter.name == name) return &filter;
    }
  }
  return nullptr;
}

// map(attribute='a.b', default=x) | map('filter', arguments…)
absl::StatusOr<Value> Map(const Value& input, const Arguments& arguments) {
  ASSIGN_OR_RETURN(const Items items, Iterate(input));
  Items out;
  out.reserve(items.size());
  if (arguments.positional.empty()) {
    static constexpr std::string_view kParameters[] = {"attribute", "default"};
    ASSIGN_OR_RETURN(const BoundArguments bound, BoundArguments::Bind(arguments, kParameters));
    ASSIGN_OR_RETURN(const Value path, bound.Get(0));
    for (const Value& item : items) {
      ASSIGN_OR_RETURN(Value value, GetPath(item, path));
      if (value.IsUndefined() && bound.Find(1) != nullptr) value = *bound.Find(1);
      out.push_back(std::move(value));
    }
    return Value::NewList(std::move(out));
  }
  if (!arguments.positional[0].IsString() || !IsFilter(arguments.positional[0].text())) {
    return absl::InvalidArgumentError("map needs the name of a filter");
  }
  Arguments rest = arguments;
  rest.positional.erase(rest.positional.begin());
  for (const Value& item : items) {
    ASSIGN_OR_RETURN(Value value, ApplyFilter(arguments.positional[0].text(), item, rest));
    out.push_back(std::move(value));
  }
  return Value::NewList(std::move(out));
}

// select, reject (by_attribute false) and selectattr, rejectattr: a test name and its arguments
// may follow; else truth decides.
absl::StatusOr<Value> Select(const Value& input, const Arguments& arguments, bool by_attribute,
                             bool keep) {
  ASSIGN_OR_RETURN(const Items items, Iterate(input));
  Arguments rest = arguments;
  const auto take_first = [&rest] {
    Value first = rest.positional.front();
    rest.positional.erase(rest.positional.begin());
    return first;
  };
  Value path;
  if (by_attribute) {
    if (rest.positional.empty()) {
      return absl::InvalidArgumentError("the name of an attribute is missing");
    }
    path = take_first();
  }
  std::string test;
  if (!rest.positional.empty()) {
    const Value name = take_first();
    if (!name.IsString() || !IsTest(name.text())) {
      return absl::InvalidArgumentError("the name of a test is expected");
    }
    test = name.text();
  }
  Items out;
  for (const Value& item : items) {
    Value subject = item;
    if (by_attribute) {
      ASSIGN_OR_RETURN(subject, GetPath(item, path));
    }
    bool holds = subject.Truth();
    if (!test.empty()) {
      ASSIGN_OR_RETURN(holds, ApplyTest(test, subject, rest));
    }
    if (holds == keep) out.push_back(item);
  }
  return Value::NewList(std::move(out));
}

}  // namespace

bool IsFilter(std::string_view name) {
  return name == "map" || name == "select" || name == "reject" || name == "selectattr" ||
         name == "rejectattr" || FindFilter(name) != nullptr;
}

absl::StatusOr<Value> ApplyFilter(std::string_view name, const Value& input,
                                  const Arguments& arguments) {
  if (name == "map") return Map(input, arguments);
  if (name == "select") return Select(input, arguments, false, true);
  if (name == "reject") return Select(input, arguments, false, false);
  if (name == "selectattr") return Select(input, arguments, true, true);
  if (name == "rejectattr") return Select(input, arguments, true, false);
  const Filter* filter = FindFilter(name);
  BATON_CHECK(filter != nullptr) << name;
  ASSIGN_OR_RETURN(const BoundArguments bound, BoundArguments::Bind(arguments, filter->parameters));
  return filter->apply(input, bound);
}

}  // namespace baton::jinja
