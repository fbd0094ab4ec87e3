// The expression half of the parser: one function for each level of precedence, loosest first.
#include <algorithm>
#include <utility>

#include "absl/strings/str_cat.h"
#include "common/check.h"
#include "common/strings.h"
#include "engine/tokenizer/jinja/parser.h"

namespace baton::jinja {
absl::StatusOr<ExpressionPtr> Parser::Make(ExpressionKind kind, int32_t line,
                                           std::vector<ExpressionPtr> children, std::string name) {
  auto node = std::make_unique<Expression>();
  node->kind = kind;
  node->line = line;
  node->name = std::move(name);
  node->children = std::move(children);
  for (const ExpressionPtr& child : node->children) {
    if (child != nullptr) node->depth = std::max(node->depth, child->depth + 1);
  }
  if (node->depth > kMaxExpressionDepth) return Error("an expression is nested too deeply");
  return node;
}

// a | a, b | a,
Parser::ExpressionOr Parser::ParseTuple(bool with_conditional) {
  const int32_t line = Current().line;
  const auto parse_item = [&] { return with_conditional ? ParseConditional() : ParseOr(); };
  ASSIGN_OR_RETURN(ExpressionPtr first, parse_item());
  if (!IsOperator(",")) return first;
  std::vector<ExpressionPtr> items = Children(std::move(first));
  while (SkipOperator(",")) {
    const TokenKind kind = Current().kind;
    if (kind == TokenKind::kVariableEnd || kind == TokenKind::kBlockEnd || IsOperator(")")) break;
    ASSIGN_OR_RETURN(ExpressionPtr item, parse_item());
    items.push_back(std::move(item));
  }
  return Make(ExpressionKind::kTuple, line, std::move(items));
}

Parser::ExpressionOr Parser::ParseConditional() {
  if (++nesting_ > kMaxExpressionDepth) return Error("an expression is nested too deeply");
  ASSIGN_OR_RETURN(ExpressionPtr value, ParseOr());
  while (IsName("if")) {
    const int32_t line = Current().line;
    Next();
    ASSIGN_OR_RETURN(ExpressionPtr condition, ParseOr());
    ExpressionPtr otherwise;
    if (SkipName("else")) {
      ASSIGN_OR_RETURN(otherwise, ParseConditional());
    }
    std::vector<ExpressionPtr> children = Children(std::move(condition), std::move(value));
    children.push_back(std::move(otherwise));
    ASSIGN_OR_RETURN(value, Make(ExpressionKind::kConditional, line, std::move(children)));
  }
  --nesting_;
  return value;
}

Parser::ExpressionOr Parser::ParseOr() {
  ASSIGN_OR_RETURN(ExpressionPtr left, ParseAnd());
  while (IsName("or")) {
    const int32_t line = Current().line;
    Next();
    ASSIGN_OR_RETURN(ExpressionPtr right, ParseAnd());
    ASSIGN_OR_RETURN(left,
                     Make(ExpressionKind::kOr, line, Children(std::move(left), std::move(right))));
  }
  return left;
}

Parser::ExpressionOr Parser::ParseAnd() {
  ASSIGN_OR_RETURN(ExpressionPtr left, ParseNot());
  while (IsName("and")) {
    const int32_t line = Current().line;
    Next();
    ASSIGN_OR_RETURN(ExpressionPtr right, ParseNot());
    ASSIGN_OR_RETURN(left,
                     Make(ExpressionKind::kAnd, line, Children(std::move(left), std::move(right))));
  }
  return left;
}

Parser::ExpressionOr Parser::ParseNot() {
  if (!IsName("not")) return ParseCompare();
  const int32_t line = Current().line;
  int count = 0;
  while (SkipName("not")) ++count;
  ASSIGN_OR_RETURN(ExpressionPtr node, ParseCompare());
  for (; count > 0; --count) {
    ASSIGN_OR_RETURN(node, Make(ExpressionKind::kNot, line, Children(std::move(node))));
  }
  return node;
}

Parser::ExpressionOr Parser::ParseCompare() {
  static constexpr std::string_view kOperators[] = {"==", "!=", "<", "<=", ">", ">="};
  const int32_t line = Current().line;
  ASSIGN_OR_RETURN(ExpressionPtr first, ParseSum());
  std::vector<ExpressionPtr> children = Children(std::move(first));
  std::vector<std::string> operators;
  while (true) {
    if (Current().kind == TokenKind::kOperator &&
        std::find(std::begin(kOperators), std::end(kOperators), Current().text) !=
            std::end(kOperators)) {
      operators.push_back(Current().text);
      Next();
    } else if (SkipName("in")) {
      operators.push_back("in");
    } else if (IsName("not") && Ahead().kind == TokenKind::kName && Ahead().text == "in") {
      operators.push_back("not in");
      Next();
      Next();
    } else {
      break;
    }
    ASSIGN_OR_RETURN(ExpressionPtr right, ParseSum());
    children.push_back(std::move(right));
  }
  if (operators.empty()) return std::move(children.front());
  ASSIGN_OR_RETURN(ExpressionPtr node, Make(ExpressionKind::kCompare, line, std::move(children)));
  node->operators = std::move(operators);
  return node;
}

Parser::ExpressionOr Parser::ParseBinary(std::initializer_list<std::string_view> operators,
                                         ExpressionOr (Parser::*operand)()) {
  ASSIGN_OR_RETURN(ExpressionPtr left, (this->*operand)());
  while (Current().kind == TokenKind::kOperator &&
         std::find(operators.begin(), operators.end(), Current().text) != operators.end()) {
    const int32_t line = Current().line;
    std::string op = Current().text;
    Next();
    ASSIGN_OR_RETURN(ExpressionPtr right, (this->*operand)());
    ASSIGN_OR_RETURN(left, Make(ExpressionKind::kBinary, line,
                                Children(std::move(left), std::move(right)), std::move(op)));
  }
  return left;
}

Parser::ExpressionOr Parser::ParseSum() { return ParseBinary({"+", "-"}, &Parser::ParseConcat); }

Parser::ExpressionOr Parser::ParseConcat() {
  const int32_t line = Current().line;
  ASSIGN_OR_RETURN(ExpressionPtr first, ParseProduct());
  if (!IsOperator("~")) return first;
  std::vector<ExpressionPtr> children = Children(std::move(first));
  while (SkipOperator("~")) {
    ASSIGN_OR_RETURN(ExpressionPtr next, ParseProduct());
    children.push_back(std::move(next));
  }
  return Make(ExpressionKind::kConcat, line, std::move(children));
}

Parser::ExpressionOr Parser::ParseProduct() {
  return ParseBinary({"*", "/", "//", "%"}, &Parser::ParsePower);
}

Parser::ExpressionOr Parser::ParsePower() {
  const auto operand = [this] { return ParseUnary(true); };
  ASSIGN_OR_RETURN(ExpressionPtr left, operand());
  while (IsOperator("**")) {
    const int32_t line = Current().line;
    Next();
    ASSIGN_OR_RETURN(ExpressionPtr right, operand());
    ASSIGN_OR_RETURN(left, Make(ExpressionKind::kBinary, line,
                                Children(std::move(left), std::move(right)), "**"));
  }
  return left;
}

Parser::ExpressionOr Parser::ParseUnary(bool with_filters) {
  if (++nesting_ > kMaxExpressionDepth) return Error("an expression is nested too deeply");
  ExpressionPtr node;
  const int32_t line = Current().line;
  if (SkipOperator("-")) {
    ASSIGN_OR_RETURN(ExpressionPtr operand, ParseUnary(false));
    ASSIGN_OR_RETURN(node, Make(ExpressionKind::kNegative, line, Children(std::move(operand))));
  } else if (SkipOperator("+")) {
    ASSIGN_OR_RETURN(ExpressionPtr operand, ParseUnary(false));
    ASSIGN_OR_RETURN(node, Make(ExpressionKind::kPositive, line, Children(std::move(operand))));
  } else {
    ASSIGN_OR_RETURN(node, ParsePrimary());
  }
  ASSIGN_OR_RETURN(node, ParsePostfix(std::move(node)));
  if (with_filters) {
    ASSIGN_OR_RETURN(node, ParseFilters(std::move(node)));
  }
  --nesting_;
  return node;
}

Parser::ExpressionOr Parser::ParsePrimary() {
  const Token token = Current();
  const auto literal = [&](Value value) -> ExpressionOr {
    Next();
    ASSIGN_OR_RETURN(ExpressionPtr node, Make(ExpressionKind::kLiteral, token.line, {}));
    node->literal = std::move(value);
    return node;
  };
  switch (token.kind) {
    case TokenKind::kName:
      if (token.text == "true" || token.text == "True") return literal(Value::Bool(true));
      if (token.text == "false" || token.text == "False") return literal(Value::Bool(false));
      if (token.text == "none" || token.text == "None") return literal(Value());
      Next();
      return Make(ExpressionKind::kName, token.line, {}, token.text);
    case TokenKind::kString: {
      std::string text;
      for (; Current().kind == TokenKind::kString; Next()) text += Current().text;
      ASSIGN_OR_RETURN(ExpressionPtr node, Make(ExpressionKind::kLiteral, token.line, {}));
      node->literal = Value::String(std::move(text));
      return node;
    }
    case TokenKind::kInteger:
      return literal(Value::Int(token.integer));
    case TokenKind::kFloat:
      return literal(Value::Float(token.number));
    default:
      break;
  }
  if (IsOperator("[")) return ParseList();
  if (IsOperator("{")) return ParseDict();
  if (!SkipOperator("(")) return Unexpected("a value");
  if (SkipOperator(")")) return Make(ExpressionKind::kTuple, token.line, {});
  ASSIGN_OR_RETURN(ExpressionPtr node, ParseTuple(true));
  RETURN_IF_ERROR(ExpectOperator(")"));
  return node;
}

Parser::ExpressionOr Parser::ParseList() {
  const int32_t line = Current().line;
  Next();
  std::vector<ExpressionPtr> items;
  while (!IsOperator("]")) {
    if (!items.empty()) {
      RETURN_IF_ERROR(ExpectOperator(","));
      if (IsOperator("]")) break;
    }
    ASSIGN_OR_RETURN(ExpressionPtr item, ParseExpression());
    items.push_back(std::move(item));
  }
  Next();
  return Make(ExpressionKind::kList, line, std::move(items));
}

Parser::ExpressionOr Parser::ParseDict() {
  const int32_t line = Current().line;
  Next();
  std::vector<ExpressionPtr> items;
  while (!IsOperator("}")) {
    if (!items.empty()) {
      RETURN_IF_ERROR(ExpectOperator(","));
      if (IsOperator("}")) break;
    }
    ASSIGN_OR_RETURN(ExpressionPtr key, ParseExpression());
    if (key->kind == ExpressionKind::kLiteral && !key->literal.IsString()) {
      return ErrorAt(line, "a dict key that is not a string is not supported");
    }
    RETURN_IF_ERROR(ExpectOperator(":"));
    ASSIGN_OR_RETURN(ExpressionPtr value, ParseExpression());
    items.push_back(std::move(key));
    items.push_back(std::move(value));
  }
  Next();
  return Make(ExpressionKind::kDict, line, std::move(items));
}

}  // namespace baton::jinja
