// The evaluator's half for expressions.
#include "absl/status/status.h"
#include "absl/strings/str_cat.h"
#include "common/check.h"
#include "common/strings.h"
#include "engine/tokenizer/jinja/evaluator.h"
#include "engine/tokenizer/jinja/filters.h"
#include "engine/tokenizer/jinja/json.h"
#include "engine/tokenizer/jinja/operators.h"
#include "engine/tokenizer/jinja/tests.h"

namespace baton::jinja {

absl::StatusOr<Value> Evaluator::Evaluate(const Expression& node, Scope& scope) {
  if (depth_ >= kMaxDepth) {
    return WithLine(absl::InvalidArgumentError("the template recurses too deeply"), node.line);
  }
  ++depth_;
  absl::StatusOr<Value> value = Compute(node, scope);
  --depth_;
  if (!value.ok()) return WithLine(value.status(), node.line);
  // Names, literals and members share what exists; anything else may have made it.
  const bool shares = node.kind == ExpressionKind::kName || node.kind == ExpressionKind::kLiteral ||
                      node.kind == ExpressionKind::kAttribute || node.kind == ExpressionKind::kItem;
  if (absl::Status status = Charge(shares ? 0 : value->SizeBytes()); !status.ok()) {
    return WithLine(status, node.line);
  }
  if (value->depth() > kMaxValueDepth) {
    return WithLine(absl::InvalidArgumentError("a value is nested too deeply"), node.line);
  }
  return value;
}

absl::StatusOr<Value> Evaluator::Compute(const Expression& node, Scope& scope) {
  switch (node.kind) {
    case ExpressionKind::kLiteral:
      return node.literal;
    case ExpressionKind::kName:
      return Lookup(node.name, scope);
    case ExpressionKind::kList: {
      ASSIGN_OR_RETURN(Items items, EvaluateAll(node, 0, scope));
      return Value::NewList(std::move(items));
    }
    case ExpressionKind::kTuple: {
      ASSIGN_OR_RETURN(Items items, EvaluateAll(node, 0, scope));
      return Value::Tuple(std::move(items));
    }
    case ExpressionKind::kDict:
      return ComputeDict(node, scope);
    case ExpressionKind::kAttribute: {
      ASSIGN_OR_RETURN(const Value object, Evaluate(*node.children[0], scope));
      return GetAttribute(object, node.name);
    }
    case ExpressionKind::kItem: {
      ASSIGN_OR_RETURN(const Value object, Evaluate(*node.children[0], scope));
      ASSIGN_OR_RETURN(const Value key, Evaluate(*node.children[1], scope));
      return GetItem(object, key);
    }
    case ExpressionKind::kSlice:
      return ComputeSlice(node, scope);
    case ExpressionKind::kCall:
      return ComputeCall(node, scope);
    case ExpressionKind::kFilter:
    case ExpressionKind::kTest:
      return ComputeFilterOrTest(node, scope);
    case ExpressionKind::kNot: {
      ASSIGN_OR_RETURN(const Value value, Evaluate(*node.children[0], scope));
      return Value::Bool(!value.Truth());
    }
    case ExpressionKind::kNegative: {
      ASSIGN_OR_RETURN(const Value value, Evaluate(*node.children[0], scope));
      return Negate(value);
    }
    case ExpressionKind::kPositive: {
      ASSIGN_OR_RETURN(const Value value, Evaluate(*node.children[0], scope));
      return ApplyBinary("+", Value::Int(0), value);
    }
    case ExpressionKind::kBinary: {
      ASSIGN_OR_RETURN(const Value left, Evaluate(*node.children[0], scope));
      ASSIGN_OR_RETURN(const Value right, Evaluate(*node.children[1], scope));
      return ApplyBinary(node.name, left, right);
    }
    case ExpressionKind::kConcat: {
      ASSIGN_OR_RETURN(const Items parts, EvaluateAll(node, 0, scope));
      return Concatenate(parts);
    }
    case ExpressionKind::kCompare:
      return ComputeCompare(node, scope);
    case ExpressionKind::kAnd:
    case ExpressionKind::kOr: {
      ASSIGN_OR_RETURN(Value left, Evaluate(*node.children[0], scope));
      if (left.Truth() == (node.kind == ExpressionKind::kOr)) return left;
      return Evaluate(*node.children[1], scope);
    }
    case ExpressionKind::kConditional:
      return ComputeConditional(node, scope);
  }
  return absl::InternalError("unknown expression");
}

absl::StatusOr<Value> Evaluator::ComputeDict(const Expression& node, Scope& scope) {
  Dict dict;
  for (size_t i = 0; i < node.children.size(); i += 2) {
    ASSIGN_OR_RETURN(const Value key, Evaluate(*node.children[i], scope));
    ASSIGN_OR_RETURN(Value value, Evaluate(*node.children[i + 1], scope));
    if (!key.IsString()) return absl::InvalidArgumentError("a dict key must be a string");
    dict.Set(key.text(), std::move(value));
  }
  return Value::NewDict(std::move(dict));
}

absl::StatusOr<Value> Evaluator::ComputeSlice(const Expression& node, Scope& scope) {
  ASSIGN_OR_RETURN(const Value object, Evaluate(*node.children[0], scope));
  Value bounds[3];  // None: absent
  for (size_t i = 0; i < 3; ++i) {
    if (node.children[i + 1] == nullptr) continue;
    ASSIGN_OR_RETURN(bounds[i], Evaluate(*node.children[i + 1], scope));
  }
  RETURN_IF_ERROR(Charge(object.SizeBytes()));
  return Slice(object, bounds[0], bounds[1], bounds[2]);
}

// a < b < c: each operand is computed once, and the first false ends it.
absl::StatusOr<Value> Evaluator::ComputeCompare(const Expression& node, Scope& scope) {
  ASSIGN_OR_RETURN(Value left, Evaluate(*node.children[0], scope));
  for (size_t i = 0; i < node.operators.size(); ++i) {
    ASSIGN_OR_RETURN(Value right, Evaluate(*node.children[i + 1], scope));
    RETURN_IF_ERROR(Charge(left.SizeBytes() + right.SizeBytes()));
    ASSIGN_OR_RETURN(const bool holds, Compare(node.operators[i], left, right));
    if (!holds) return Value::Bool(false);
    left = std::move(right);
  }
  return Value::Bool(true);
}

absl::StatusOr<Value> Evaluator::ComputeConditional(const Expression& node, Scope& scope) {
  ASSIGN_OR_RETURN(const Value condition, Evaluate(*node.children[0], scope));
  if (condition.Truth()) return Evaluate(*node.children[1], scope);
  if (node.children[2] == nullptr) {
    return Value::MakeUndefined("the inline if-expression evaluated to false and has no else");
  }
  return Evaluate(*node.children[2], scope);
}

absl::StatusOr<Value> Evaluator::ComputeFilterOrTest(const Expression& node, Scope& scope) {
  ASSIGN_OR_RETURN(const Value input, Evaluate(*node.children[0], scope));
  ASSIGN_OR_RETURN(const Arguments arguments, EvaluateArguments(node, scope));
  RETURN_IF_ERROR(Charge(input.SizeBytes()));
  if (node.kind == ExpressionKind::kFilter) return ApplyFilter(node.name, input, arguments);
  ASSIGN_OR_RETURN(const bool holds, ApplyTest(node.name, input, arguments));
  return Value::Bool(holds);
}

absl::StatusOr<Items> Evaluator::EvaluateAll(const Expression& node, size_t first, Scope& scope) {
  Items items;
  items.reserve(node.children.size() - first);
  for (size_t i = first; i < node.children.size(); ++i) {
    ASSIGN_OR_RETURN(Value item, Evaluate(*node.children[i], scope));
    items.push_back(std::move(item));
  }
  return items;
}

// The arguments of a call, filter or test: children[0] is what it is applied to.
absl::StatusOr<Arguments> Evaluator::EvaluateArguments(const Expression& node, Scope& scope) {
  Arguments arguments;
  ASSIGN_OR_RETURN(arguments.positional, EvaluateAll(node, 1, scope));
  for (const auto& [name, expression] : node.named) {
    ASSIGN_OR_RETURN(Value value, Evaluate(*expression, scope));
    arguments.named.emplace_back(name, std::move(value));
  }
  return arguments;
}

// Innermost scope first, then the context, then the global functions.
Value Evaluator::Lookup(std::string_view name, const Scope& scope) const {
  for (const Scope* at = &scope; at != nullptr; at = at->parent) {
    for (const auto& [known, value] : at->variables) {
      if (known == name) return value;
    }
  }
  if (const Value* found = context_.dict().Find(name)) return *found;
  if (name == "strftime_now" && FindTime() == nullptr) {
    return Value::MakeUndefined(
        absl::StrCat("strftime_now needs \"", View(kTimeKey), "\" in the context"));
  }
  return FindGlobal(name);
}

}  // namespace baton::jinja
