// What stands behind an operand: members, subscripts, calls, filters and tests.
#include <algorithm>
#include <utility>

#include "absl/strings/str_cat.h"
#include "common/check.h"
#include "engine/tokenizer/jinja/filters.h"
#include "engine/tokenizer/jinja/methods.h"
#include "engine/tokenizer/jinja/parser.h"
#include "engine/tokenizer/jinja/tests.h"

namespace baton::jinja {

Parser::ExpressionOr Parser::ParsePostfix(ExpressionPtr node) {
  while (true) {
    if (IsOperator(".") || IsOperator("[")) {
      ASSIGN_OR_RETURN(node, ParseSubscript(std::move(node)));
    } else if (IsOperator("(")) {
      ASSIGN_OR_RETURN(node, ParseCall(std::move(node)));
    } else {
      return node;
    }
  }
}

// x.name | x.0 | x[key] | x[a:b:c]
Parser::ExpressionOr Parser::ParseSubscript(ExpressionPtr node) {
  const int32_t line = Current().line;
  if (SkipOperator(".")) {
    const Token token = Current();
    Next();
    if (token.kind == TokenKind::kName) {
      return Make(ExpressionKind::kAttribute, line, Children(std::move(node)), token.text);
    }
    if (token.kind != TokenKind::kInteger) return ErrorAt(line, "expected a name after \".\"");
    ASSIGN_OR_RETURN(ExpressionPtr index, Make(ExpressionKind::kLiteral, line, {}));
    index->literal = Value::Int(token.integer);
    return Make(ExpressionKind::kItem, line, Children(std::move(node), std::move(index)));
  }
  Next();  // [
  std::vector<ExpressionPtr> bounds(3);
  size_t bound = 0;
  for (; !IsOperator("]"); ++bound) {
    if (bound == 3) return Unexpected("\"]\"");
    if (!IsOperator(":")) {
      ASSIGN_OR_RETURN(bounds[bound], ParseExpression());
    }
    if (IsOperator("]")) break;
    RETURN_IF_ERROR(ExpectOperator(":"));
    if (bound == 2) return Unexpected("\"]\"");
  }
  Next();
  if (bound == 0) {
    if (bounds[0] == nullptr) return ErrorAt(line, "expected a subscript");
    return Make(ExpressionKind::kItem, line, Children(std::move(node), std::move(bounds[0])));
  }
  std::vector<ExpressionPtr> children = Children(std::move(node));
  for (ExpressionPtr& each : bounds) children.push_back(std::move(each));
  return Make(ExpressionKind::kSlice, line, std::move(children));
}

// "(" arguments ")": positional ones join node.children.
absl::Status Parser::ParseArguments(Expression& node) {
  RETURN_IF_ERROR(ExpectOperator("("));
  bool first = true;
  while (!IsOperator(")")) {
    if (!first) {
      RETURN_IF_ERROR(ExpectOperator(","));
      if (IsOperator(")")) break;
    }
    first = false;
    if (IsOperator("*") || IsOperator("**")) return Error("\"*\" arguments are not supported");
    const bool is_named = Current().kind == TokenKind::kName &&
                          Ahead().kind == TokenKind::kOperator && Ahead().text == "=";
    std::string name;
    if (is_named) {
      name = Current().text;
      Next();
      Next();
    } else if (!node.named.empty()) {
      return Error("a positional argument follows a named one");
    }
    ASSIGN_OR_RETURN(ExpressionPtr value, ParseExpression());
    node.depth = std::max(node.depth, value->depth + 1);
    if (is_named) {
      node.named.emplace_back(std::move(name), std::move(value));
    } else {
      node.children.push_back(std::move(value));
    }
  }
  if (node.depth > kMaxExpressionDepth) return Error("an expression is nested too deeply");
  return ExpectOperator(")");
}

Parser::ExpressionOr Parser::ParseCall(ExpressionPtr node) {
  if (node->kind == ExpressionKind::kAttribute && !IsMethod(node->name)) {
    return Error(absl::StrCat("the method \"", node->name, "\" is not supported"));
  }
  const int32_t line = Current().line;
  ASSIGN_OR_RETURN(ExpressionPtr call,
                   Make(ExpressionKind::kCall, line, Children(std::move(node))));
  RETURN_IF_ERROR(ParseArguments(*call));
  return call;
}

Parser::ExpressionOr Parser::ParseFilters(ExpressionPtr node) {
  while (true) {
    if (IsOperator("|")) {
      ASSIGN_OR_RETURN(node, ParseFilter(std::move(node)));
    } else if (IsName("is")) {
      ASSIGN_OR_RETURN(node, ParseTest(std::move(node)));
    } else if (IsOperator("(")) {
      ASSIGN_OR_RETURN(node, ParseCall(std::move(node)));
    } else {
      return node;
    }
  }
}

Parser::ExpressionOr Parser::ParseFilter(ExpressionPtr node) {
  Next();  // |
  const int32_t line = Current().line;
  ASSIGN_OR_RETURN(std::string name, ExpectIdentifier());
  if (!IsFilter(name)) {
    return ErrorAt(line, absl::StrCat("the filter \"", name, "\" is not supported"));
  }
  ASSIGN_OR_RETURN(ExpressionPtr filter,
                   Make(ExpressionKind::kFilter, line, Children(std::move(node)), std::move(name)));
  if (IsOperator("(")) RETURN_IF_ERROR(ParseArguments(*filter));
  return filter;
}

// x is [not] name [argument | (arguments)]
Parser::ExpressionOr Parser::ParseTest(ExpressionPtr node) {
  const int32_t line = Current().line;
  Next();  // is
  const bool negated = SkipName("not");
  ASSIGN_OR_RETURN(std::string name, ExpectIdentifier());
  if (!IsTest(name)) {
    return ErrorAt(line, absl::StrCat("the test \"", name, "\" is not supported"));
  }
  ASSIGN_OR_RETURN(ExpressionPtr test,
                   Make(ExpressionKind::kTest, line, Children(std::move(node)), std::move(name)));
  const TokenKind kind = Current().kind;
  if (IsOperator("(")) {
    RETURN_IF_ERROR(ParseArguments(*test));
  } else if (kind == TokenKind::kString || kind == TokenKind::kInteger ||
             kind == TokenKind::kFloat || IsOperator("[") || IsOperator("{") ||
             (kind == TokenKind::kName && !IsName("else") && !IsName("or") && !IsName("and") &&
              !IsName("is") && !IsName("if"))) {
    ASSIGN_OR_RETURN(ExpressionPtr argument, ParsePrimary());
    ASSIGN_OR_RETURN(argument, ParsePostfix(std::move(argument)));
    test->depth = std::max(test->depth, argument->depth + 1);
    test->children.push_back(std::move(argument));
    if (test->depth > kMaxExpressionDepth) return Error("an expression is nested too deeply");
  }
  if (!negated) return test;
  return Make(ExpressionKind::kNot, line, Children(std::move(test)));
}

}  // namespace baton::jinja
