// The evaluator's half for calls: macros, methods and global functions.
#include <string>

#include "absl/status/status.h"
#include "absl/strings/str_cat.h"
#include "common/check.h"
#include "common/strings.h"
#include "engine/tokenizer/jinja/date.h"
#include "engine/tokenizer/jinja/evaluator.h"
#include "engine/tokenizer/jinja/methods.h"
#include "engine/tokenizer/jinja/text.h"

namespace baton::jinja {
namespace {

constexpr int64_t kMaxRange = 100'000;  // as Jinja's sandbox
constexpr size_t kMaxNamespaces = 10'000;
constexpr std::string_view kFunctions[] = {"range", "dict", "namespace", "raise_exception",
                                           "strftime_now"};

absl::StatusOr<Value> Range(const Arguments& arguments) {
  const std::vector<Value>& given = arguments.positional;
  if (!arguments.named.empty() || given.empty() || given.size() > 3) {
    return absl::InvalidArgumentError("range takes one to three integers");
  }
  for (const Value& value : given) {
    if (!value.IsIntegral()) return absl::InvalidArgumentError("range takes integers");
  }
  const int64_t start = given.size() == 1 ? 0 : given[0].integer();
  const int64_t stop = given.size() == 1 ? given[0].integer() : given[1].integer();
  const int64_t step = given.size() == 3 ? given[2].integer() : 1;
  if (step == 0) return absl::InvalidArgumentError("range's step must not be zero");
  Items items;
  for (int64_t at = start; step > 0 ? at < stop : at > stop;) {
    if (static_cast<int64_t>(items.size()) == kMaxRange) {
      return absl::InvalidArgumentError(absl::StrCat("range is limited to ", kMaxRange, " items"));
    }
    items.push_back(Value::Int(at));
    if (__builtin_add_overflow(at, step, &at)) break;
  }
  return Value::NewList(std::move(items));
}

// dict(mapping, name=value, …)
absl::StatusOr<Dict> MakeDict(const Arguments& arguments) {
  Dict dict;
  if (arguments.positional.size() > 1 ||
      (arguments.positional.size() == 1 && !arguments.positional[0].IsDict())) {
    return absl::InvalidArgumentError("expected one dict and named arguments");
  }
  if (!arguments.positional.empty()) dict = arguments.positional[0].dict();
  for (const auto& [name, value] : arguments.named) dict.Set(std::string(name), value);
  return dict;
}

}  // namespace

Value FindGlobal(std::string_view name) {
  for (const std::string_view function : kFunctions) {
    if (function == name) return Value::OfFunction(function);
  }
  return Value::MakeUndefined(absl::StrCat("'", View(name), "' is undefined"));
}

absl::StatusOr<Value> Evaluator::ComputeCall(const Expression& node, Scope& scope) {
  const Expression& callee = *node.children[0];
  if (callee.kind == ExpressionKind::kAttribute) {
    ASSIGN_OR_RETURN(const Value object, Evaluate(*callee.children[0], scope));
    ASSIGN_OR_RETURN(const Arguments arguments, EvaluateArguments(node, scope));
    RETURN_IF_ERROR(Charge(object.SizeBytes()));
    return CallMethod(object, callee.name, arguments);
  }
  ASSIGN_OR_RETURN(const Value function, Evaluate(callee, scope));
  ASSIGN_OR_RETURN(const Arguments arguments, EvaluateArguments(node, scope));
  switch (function.kind()) {
    case Value::Kind::kMacro:
      return CallMacro(*function.macro(), arguments);
    case Value::Kind::kFunction:
      return CallFunction(function.function(), arguments);
    case Value::Kind::kUndefined:
      return absl::InvalidArgumentError(function.missing());
    default:
      return absl::InvalidArgumentError(
          absl::StrCat("a value of type ", View(function.TypeName()), " cannot be called"));
  }
}

absl::StatusOr<Value> Evaluator::CallMacro(const Statement& macro, const Arguments& arguments) {
  std::vector<std::string_view> names;
  for (const Parameter& parameter : macro.parameters) names.push_back(parameter.name);
  ASSIGN_OR_RETURN(const BoundArguments bound, BoundArguments::Bind(arguments, names));
  Scope scope{root_, {}};
  for (size_t i = 0; i < names.size(); ++i) {
    const Parameter& parameter = macro.parameters[i];
    Value value =
        Value::MakeUndefined(absl::StrCat("parameter '", parameter.name, "' was not provided"));
    if (bound.Find(i) != nullptr) {
      value = *bound.Find(i);
    } else if (parameter.default_value != nullptr) {
      ASSIGN_OR_RETURN(value, Evaluate(*parameter.default_value, scope));
    }
    scope.Set(names[i], std::move(value));
  }
  std::string out;
  RETURN_IF_ERROR(Execute(macro.body, scope, out).status());
  return Value::String(std::move(out));
}

absl::StatusOr<Value> Evaluator::CallFunction(std::string_view name, const Arguments& arguments) {
  if (name == "range") return Range(arguments);
  if (name == "namespace") return NewNamespace(arguments);
  if (name == "strftime_now") return StrftimeNow(arguments);
  if (name == "dict") {
    ASSIGN_OR_RETURN(Dict dict, MakeDict(arguments));
    return Value::NewDict(std::move(dict));
  }
  BATON_CHECK(name == "raise_exception") << name;
  static constexpr std::string_view kParameters[] = {"message"};
  ASSIGN_OR_RETURN(const BoundArguments bound, BoundArguments::Bind(arguments, kParameters));
  ASSIGN_OR_RETURN(const Value message, bound.Get(0));
  ASSIGN_OR_RETURN(const std::string text, Str(message));
  error_is_final_ = true;  // the template's own words, without a line
  return absl::InvalidArgumentError(text);
}

absl::StatusOr<Value> Evaluator::NewNamespace(const Arguments& arguments) {
  if (namespaces_.size() == kMaxNamespaces) {
    return absl::InvalidArgumentError(
        absl::StrCat("a template makes at most ", kMaxNamespaces, " namespaces"));
  }
  ASSIGN_OR_RETURN(const Dict dict, MakeDict(arguments));
  auto space = std::make_unique<Namespace>();
  for (const auto& [key, value] : dict.entries()) space->Set(key, value);
  namespaces_.push_back(std::move(space));
  return Value::OfNamespace(namespaces_.back().get());
}

const Value* Evaluator::FindTime() const {
  const Value* time = context_.dict().Find(kTimeKey);
  return time != nullptr && time->IsNumber() ? time : nullptr;
}

absl::StatusOr<Value> Evaluator::StrftimeNow(const Arguments& arguments) const {
  static constexpr std::string_view kParameters[] = {"format"};
  ASSIGN_OR_RETURN(const BoundArguments bound, BoundArguments::Bind(arguments, kParameters));
  ASSIGN_OR_RETURN(const std::string format, bound.Text(0, ""));
  const double time = FindTime()->number();
  // The years 1 to 9999, as Python has them.
  if (!(time >= -62135596800.0 && time < 253402300800.0)) {
    return absl::InvalidArgumentError("the time is out of range");
  }
  ASSIGN_OR_RETURN(std::string text, FormatDate(format, static_cast<int64_t>(time)));
  return Value::String(std::move(text));
}

}  // namespace baton::jinja
