// Renders a parsed template: a tree walk with bounded steps, depth and memory.
#pragma once

#include <memory>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

#include "absl/status/statusor.h"
#include "engine/tokenizer/jinja/arguments.h"
#include "engine/tokenizer/jinja/ast.h"
#include "engine/tokenizer/jinja/value.h"

namespace baton::jinja {

// For one rendering.
class Evaluator {
 public:
  // `context` is a dict; it and `body` outlive the evaluator.
  Evaluator(const Body& body, const Value& context) : body_(body), context_(context) {}

  // INVALID_ARGUMENT: the message given to raise_exception, or the line and what is wrong there.
  absl::StatusOr<std::string> Render();

 private:
  // Statements and expressions inside one another: bounds the C++ stack.
  static constexpr int kMaxDepth = 400;

  // What the rest of a body does after a statement.
  enum class Flow { kNext, kBreak, kContinue };
  using FlowOr = absl::StatusOr<Flow>;

  // Variables of a for iteration, a macro call, a block or the whole template. On the C++ stack;
  // no value refers to one.
  struct Scope {
    Scope* parent = nullptr;
    std::vector<std::pair<std::string_view, Value>> variables;  // names belong to the template
    void Set(std::string_view name, Value value);
  };

  // evaluator.cc: statements
  FlowOr Execute(const Body& body, Scope& scope, std::string& out);
  FlowOr ExecuteStatement(const Statement& statement, Scope& scope, std::string& out);
  FlowOr ExecuteFor(const Statement& statement, Scope& scope, std::string& out);
  FlowOr ExecuteIf(const Statement& statement, Scope& scope, std::string& out);
  absl::Status ExecuteSetBlock(const Statement& statement, Scope& scope);
  absl::StatusOr<Items> FilterItems(const Statement& statement, Scope& scope, Items items);
  absl::Status Assign(const Target& target, Value value, Scope& scope);

  // expression.cc. Evaluate charges the budget and remembers the line of the innermost error.
  absl::StatusOr<Value> Evaluate(const Expression& node, Scope& scope);
  absl::StatusOr<Value> Compute(const Expression& node, Scope& scope);
  absl::StatusOr<Value> ComputeDict(const Expression& node, Scope& scope);
  absl::StatusOr<Value> ComputeSlice(const Expression& node, Scope& scope);
  absl::StatusOr<Value> ComputeCompare(const Expression& node, Scope& scope);
  absl::StatusOr<Value> ComputeConditional(const Expression& node, Scope& scope);
  absl::StatusOr<Value> ComputeFilterOrTest(const Expression& node, Scope& scope);
  absl::StatusOr<Items> EvaluateAll(const Expression& node, size_t first, Scope& scope);
  absl::StatusOr<Arguments> EvaluateArguments(const Expression& node, Scope& scope);
  Value Lookup(std::string_view name, const Scope& scope) const;

  // call.cc
  absl::StatusOr<Value> ComputeCall(const Expression& node, Scope& scope);
  absl::StatusOr<Value> CallMacro(const Statement& macro, const Arguments& arguments);
  absl::StatusOr<Value> CallFunction(std::string_view name, const Arguments& arguments);
  absl::StatusOr<Value> NewNamespace(const Arguments& arguments);
  absl::StatusOr<Value> StrftimeNow(const Arguments& arguments) const;
  const Value* FindTime() const;  // null: the context gives no time

  absl::Status Charge(size_t bytes);
  // Gives `status` the line, unless it has one or is the template's own message.
  absl::Status WithLine(absl::Status status, int32_t line);

  const Body& body_;
  const Value& context_;
  Scope* root_ = nullptr;
  std::vector<std::unique_ptr<Namespace>> namespaces_;
  int64_t steps_left_ = 0;
  int64_t bytes_left_ = 0;
  int depth_ = 0;
  bool error_is_final_ = false;
};

// The context's entry that strftime_now reads: seconds since 1970. Without it strftime_now is not
// defined, as templates can ask.
inline constexpr std::string_view kTimeKey = "current_time_unix_s";

// A global function by its name, or undefined.
Value FindGlobal(std::string_view name);

}  // namespace baton::jinja
