// Parses a template. Recursive descent after Jinja 3.1's own grammar.
#pragma once

#include <algorithm>
#include <string>
#include <string_view>
#include <vector>

#include "absl/status/statusor.h"
#include "engine/tokenizer/jinja/ast.h"
#include "engine/tokenizer/jinja/lexer.h"

namespace baton::jinja {

// INVALID_ARGUMENT names the line of what is wrong or not supported: statements, filters, tests and
// methods that Baton does not have are found here, not when the template is rendered.
absl::StatusOr<Body> ParseTemplate(std::string_view source);

// Bounds the recursion of parsing, of evaluating and of destroying a tree.
inline constexpr int32_t kMaxExpressionDepth = 120;

class Parser {
 public:
  explicit Parser(std::vector<Token> tokens) : tokens_(std::move(tokens)) {}

  // Statements up to a block that begins with one of `end_tags` (left unread after its "{%"), or,
  // when there are none, to the end.
  absl::StatusOr<Body> ParseBody(const std::vector<std::string_view>& end_tags);

 private:
  using StatementOr = absl::StatusOr<std::unique_ptr<Statement>>;
  using ExpressionOr = absl::StatusOr<ExpressionPtr>;

  // parser.cc: statements
  StatementOr ParseStatement();
  StatementOr ParseFor();
  StatementOr ParseIf();
  StatementOr ParseSet();
  StatementOr ParseMacro();
  StatementOr ParseGeneration();
  StatementOr ParseLoopControl(StatementKind kind);
  absl::Status ParseParameters(std::vector<Parameter>& parameters);
  absl::StatusOr<Target> ParseTarget(bool allow_attribute);
  // The body after the opening tag's "%}", the closing tag included.
  absl::StatusOr<Body> ParseBodyUntil(std::string_view end_tag);

  // parser_expression.cc
  ExpressionOr ParseTuple(bool with_conditional);
  ExpressionOr ParseExpression() { return ParseConditional(); }
  ExpressionOr ParseConditional();
  ExpressionOr ParseOr();
  ExpressionOr ParseAnd();
  ExpressionOr ParseNot();
  ExpressionOr ParseCompare();
  ExpressionOr ParseSum();
  ExpressionOr ParseConcat();
  ExpressionOr ParseProduct();
  ExpressionOr ParsePower();
  ExpressionOr ParseUnary(bool with_filters);
  ExpressionOr ParsePrimary();
  ExpressionOr ParseList();
  ExpressionOr ParseDict();
  ExpressionOr ParsePostfix(ExpressionPtr node);
  ExpressionOr ParseSubscript(ExpressionPtr node);
  ExpressionOr ParseCall(ExpressionPtr node);
  ExpressionOr ParseFilters(ExpressionPtr node);  // filters, tests and calls behind an operand
  ExpressionOr ParseFilter(ExpressionPtr node);
  ExpressionOr ParseTest(ExpressionPtr node);
  absl::Status ParseArguments(Expression& node);
  // `left` op `right` for each operator of `operators` that follows.
  ExpressionOr ParseBinary(std::initializer_list<std::string_view> operators,
                           ExpressionOr (Parser::*operand)());
  // Wraps children into a node and checks the depth of the tree.
  ExpressionOr Make(ExpressionKind kind, int32_t line, std::vector<ExpressionPtr> children,
                    std::string name = "");

  template <typename... Nodes>
  static std::vector<ExpressionPtr> Children(Nodes... nodes) {
    std::vector<ExpressionPtr> children;
    (children.push_back(std::move(nodes)), ...);
    return children;
  }

  const Token& Current() const { return tokens_[pos_]; }
  const Token& Ahead() const { return tokens_[std::min(pos_ + 1, tokens_.size() - 1)]; }
  void Next() { pos_ = std::min(pos_ + 1, tokens_.size() - 1); }
  bool IsOperator(std::string_view op) const {
    return Current().kind == TokenKind::kOperator && Current().text == op;
  }
  bool IsName(std::string_view name) const {
    return Current().kind == TokenKind::kName && Current().text == name;
  }
  bool SkipOperator(std::string_view op);
  bool SkipName(std::string_view name);
  absl::Status ExpectOperator(std::string_view op);
  absl::Status ExpectName(std::string_view name);
  absl::StatusOr<std::string> ExpectIdentifier();
  absl::Status ExpectBlockEnd();
  absl::Status Unexpected(std::string_view wanted) const;
  absl::Status Error(std::string_view message) const { return ErrorAt(Current().line, message); }

  std::vector<Token> tokens_;
  size_t pos_ = 0;
  int nesting_ = 0;        // of recursive calls
  int loops_ = 0;          // for statements around the current place, in the current macro
  bool in_scope_ = false;  // inside a for, a macro or a generation block
};

}  // namespace baton::jinja
