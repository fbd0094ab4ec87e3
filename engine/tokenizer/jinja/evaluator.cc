#include "engine/tokenizer/jinja/evaluator.h"

#include "absl/status/status.h"
#include "absl/strings/str_cat.h"
#include "common/check.h"
#include "common/strings.h"
#include "engine/tokenizer/jinja/lexer.h"
#include "engine/tokenizer/jinja/operators.h"
#include "engine/tokenizer/jinja/text.h"

namespace baton::jinja {
namespace {

// Far above what a real template needs for a long conversation, and well under a second.
constexpr int64_t kMaxSteps = 2'000'000;
constexpr int64_t kMaxBytes = int64_t{256} << 20;  // copied or made, in all

}  // namespace

absl::StatusOr<std::string> Evaluator::Render() {
  steps_left_ = kMaxSteps;
  bytes_left_ = kMaxBytes;
  Scope root;
  root_ = &root;
  std::string out;
  RETURN_IF_ERROR(Execute(body_, root, out).status());
  return out;
}

void Evaluator::Scope::Set(std::string_view name, Value value) {
  for (auto& [known, old] : variables) {
    if (known == name) {
      old = std::move(value);
      return;
    }
  }
  variables.emplace_back(name, std::move(value));
}

absl::Status Evaluator::Charge(size_t bytes) {
  --steps_left_;
  bytes_left_ -= static_cast<int64_t>(bytes);
  if (steps_left_ < 0) return absl::InvalidArgumentError("the template takes too many steps");
  if (bytes_left_ < 0) return absl::InvalidArgumentError("the template makes too much text");
  return absl::OkStatus();
}

absl::Status Evaluator::WithLine(absl::Status status, int32_t line) {
  if (error_is_final_) return status;
  error_is_final_ = true;
  return ErrorAt(line, View(status.message()));
}

Evaluator::FlowOr Evaluator::Execute(const Body& body, Scope& scope, std::string& out) {
  for (const std::unique_ptr<Statement>& statement : body) {
    ++depth_;  // Evaluate checks it: recursion comes through a call
    FlowOr flow = ExecuteStatement(*statement, scope, out);
    --depth_;
    if (!flow.ok()) return WithLine(flow.status(), statement->line);
    if (*flow != Flow::kNext) return flow;
  }
  return Flow::kNext;
}

Evaluator::FlowOr Evaluator::ExecuteStatement(const Statement& statement, Scope& scope,
                                              std::string& out) {
  RETURN_IF_ERROR(Charge(statement.kind == StatementKind::kText ? statement.text.size() : 0));
  switch (statement.kind) {
    case StatementKind::kText:
      out += statement.text;
      break;
    case StatementKind::kOutput: {
      ASSIGN_OR_RETURN(const Value value, Evaluate(*statement.expression, scope));
      ASSIGN_OR_RETURN(const std::string text, Str(value));
      RETURN_IF_ERROR(Charge(text.size()));
      out += text;
      break;
    }
    case StatementKind::kFor:
      return ExecuteFor(statement, scope, out);
    case StatementKind::kIf:
      return ExecuteIf(statement, scope, out);
    case StatementKind::kSet: {
      ASSIGN_OR_RETURN(Value value, Evaluate(*statement.expression, scope));
      RETURN_IF_ERROR(Assign(statement.target, std::move(value), scope));
      break;
    }
    case StatementKind::kSetBlock:
      RETURN_IF_ERROR(ExecuteSetBlock(statement, scope));
      break;
    case StatementKind::kMacro:
      scope.Set(statement.text, Value::OfMacro(&statement));
      break;
    case StatementKind::kScope: {
      Scope inner{&scope, {}};
      RETURN_IF_ERROR(Execute(statement.body, inner, out).status());
      break;
    }
    case StatementKind::kBreak:
      return Flow::kBreak;
    case StatementKind::kContinue:
      return Flow::kContinue;
  }
  if (out.size() > kMaxTextBytes) return TextTooLong();
  return Flow::kNext;
}

Evaluator::FlowOr Evaluator::ExecuteIf(const Statement& statement, Scope& scope, std::string& out) {
  for (const Branch& branch : statement.branches) {
    ASSIGN_OR_RETURN(const Value condition, Evaluate(*branch.condition, scope));
    if (condition.Truth()) return Execute(branch.body, scope, out);
  }
  return Execute(statement.other, scope, out);
}

// The items for which the loop's own condition holds. `loop` is not there yet.
absl::StatusOr<Items> Evaluator::FilterItems(const Statement& statement, Scope& scope,
                                             Items items) {
  if (statement.condition == nullptr) return items;
  Items kept;
  for (Value& item : items) {
    RETURN_IF_ERROR(Charge(0));
    Scope inner{&scope, {}};
    RETURN_IF_ERROR(Assign(statement.target, item, inner));
    ASSIGN_OR_RETURN(const Value keep, Evaluate(*statement.condition, inner));
    if (keep.Truth()) kept.push_back(std::move(item));
  }
  return kept;
}

Evaluator::FlowOr Evaluator::ExecuteFor(const Statement& statement, Scope& scope,
                                        std::string& out) {
  ASSIGN_OR_RETURN(const Value iterable, Evaluate(*statement.expression, scope));
  ASSIGN_OR_RETURN(Items items, Iterate(iterable));
  RETURN_IF_ERROR(Charge(items.size() * sizeof(Value)));
  ASSIGN_OR_RETURN(items, FilterItems(statement, scope, std::move(items)));
  if (items.empty()) {
    Scope inner{&scope, {}};
    return Execute(statement.other, inner, out);
  }
  const auto loop = std::make_shared<LoopState>();
  loop->items = std::move(items);
  for (loop->index = 0; loop->index < loop->items.size(); ++loop->index) {
    RETURN_IF_ERROR(Charge(0));
    Scope inner{&scope, {}};
    inner.Set("loop", Value::OfLoop(loop));
    RETURN_IF_ERROR(Assign(statement.target, loop->items[loop->index], inner));
    ASSIGN_OR_RETURN(const Flow flow, Execute(statement.body, inner, out));
    if (flow == Flow::kBreak) break;
  }
  return Flow::kNext;
}

absl::Status Evaluator::ExecuteSetBlock(const Statement& statement, Scope& scope) {
  std::string text;
  Scope inner{&scope, {}};
  RETURN_IF_ERROR(Execute(statement.body, inner, text).status());
  Value value = Value::String(std::move(text));
  if (statement.filter != nullptr) {
    inner.Set(kBlockText, std::move(value));
    ASSIGN_OR_RETURN(value, Evaluate(*statement.filter, inner));
  }
  return Assign(statement.target, std::move(value), scope);
}

absl::Status Evaluator::Assign(const Target& target, Value value, Scope& scope) {
  if (!target.attribute.empty()) {
    const Value space = Lookup(target.names[0], scope);
    if (space.kind() != Value::Kind::kNamespace) {
      return absl::InvalidArgumentError(
          absl::StrCat("cannot assign attribute: \"", target.names[0], "\" is not a namespace"));
    }
    space.name_space()->Set(target.attribute, std::move(value));
    return absl::OkStatus();
  }
  if (!target.unpacks) {
    scope.Set(target.names[0], std::move(value));
    return absl::OkStatus();
  }
  ASSIGN_OR_RETURN(Items items, Iterate(value));
  if (items.size() != target.names.size()) {
    return absl::InvalidArgumentError(absl::StrCat("cannot unpack ", items.size(), " values into ",
                                                   target.names.size(), " names"));
  }
  for (size_t i = 0; i < items.size(); ++i) scope.Set(target.names[i], std::move(items[i]));
  return absl::OkStatus();
}

}  // namespace baton::jinja
