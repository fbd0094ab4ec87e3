// A parsed template.
#pragma once

#include <cstdint>
#include <memory>
#include <string>
#include <utility>
#include <vector>

#include "engine/tokenizer/jinja/value.h"

namespace baton::jinja {

enum class ExpressionKind {
  kLiteral,      // literal
  kName,         // name
  kList,         // children
  kTuple,        // children
  kDict,         // children: key, value, key, value, …
  kAttribute,    // children[0].name
  kItem,         // children[0][children[1]]
  kSlice,        // children[0][children[1]:children[2]:children[3]]; absent bounds are null
  kCall,         // children[0](children[1…], named)
  kFilter,       // children[0] | name(children[1…], named)
  kTest,         // children[0] is name(children[1…], named)
  kNot,          // children[0]
  kNegative,     // children[0]
  kPositive,     // children[0]
  kBinary,       // children[0] name children[1]; name is + - * / // % **
  kConcat,       // children joined by ~
  kCompare,      // children[0] operators[0] children[1] operators[1] children[2] …
  kAnd,          // children[0] and children[1]
  kOr,           // children[0] or children[1]
  kConditional,  // children[1] if children[0] else children[2]; no else: null
};

struct Expression;
using ExpressionPtr = std::unique_ptr<Expression>;

struct Expression {
  ExpressionKind kind = ExpressionKind::kLiteral;
  int32_t line = 1;
  int32_t depth = 1;  // of the tree below, itself included
  std::string name;
  Value literal;
  std::vector<ExpressionPtr> children;
  std::vector<std::pair<std::string, ExpressionPtr>> named;  // keyword arguments
  std::vector<std::string> operators;                        // == != < <= > >= in "not in"
};

enum class StatementKind {
  kText,      // text
  kOutput,    // {{ expression }}
  kFor,       // for target in expression if condition: body, else: other
  kIf,        // branches, then other
  kSet,       // target = expression
  kSetBlock,  // target = the rendered body; `filter` (may be null) is applied to it
  kMacro,     // name(parameters): body
  kScope,     // body with variables of its own ({% generation %})
  kBreak,
  kContinue,
};

struct Statement;
using Body = std::vector<std::unique_ptr<Statement>>;

// What is assigned to: one name, several names (unpacking), or an attribute of a namespace.
struct Target {
  std::vector<std::string> names;
  bool unpacks = false;
  std::string attribute;  // not empty: names[0].attribute
};

struct Parameter {
  std::string name;
  ExpressionPtr default_value;  // null: none
};

struct Branch {
  ExpressionPtr condition;
  Body body;
};

struct Statement {
  StatementKind kind = StatementKind::kText;
  int32_t line = 1;
  std::string text;  // kText: the text; kMacro: the name
  ExpressionPtr expression;
  ExpressionPtr condition;
  // kSetBlock: a filter chain whose innermost input is the name kBlockText.
  ExpressionPtr filter;
  Target target;
  std::vector<Parameter> parameters;
  std::vector<Branch> branches;
  Body body;
  Body other;
};

// Cannot clash with a name in a template: it is no identifier.
inline constexpr char kBlockText[] = "(block)";

}  // namespace baton::jinja
