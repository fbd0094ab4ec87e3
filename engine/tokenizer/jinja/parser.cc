#include "engine/tokenizer/jinja/parser.h"

#include <algorithm>

#include "absl/strings/str_cat.h"
#include "common/check.h"
#include "common/strings.h"
#include "engine/tokenizer/jinja/template.h"
#include "engine/tokenizer/unicode/utf8.h"

namespace baton::jinja {
namespace {

constexpr int kMaxNesting = 100;

std::string Describe(const Token& token) {
  switch (token.kind) {
    case TokenKind::kText:
      return "text";
    case TokenKind::kVariableBegin:
      return "\"{{\"";
    case TokenKind::kVariableEnd:
      return "\"}}\"";
    case TokenKind::kBlockBegin:
      return "\"{%\"";
    case TokenKind::kBlockEnd:
      return "\"%}\"";
    case TokenKind::kEnd:
      return "the end of the template";
    default:
      return absl::StrCat("\"", token.text, "\"");
  }
}

std::unique_ptr<Statement> NewStatement(StatementKind kind, int32_t line) {
  auto statement = std::make_unique<Statement>();
  statement->kind = kind;
  statement->line = line;
  return statement;
}

}  // namespace

absl::StatusOr<Body> ParseTemplate(std::string_view source) {
  if (source.size() > kMaxTemplateBytes) {
    return absl::InvalidArgumentError(absl::StrCat(
        "chat template: ", source.size(), " bytes, at most ", kMaxTemplateBytes, " are allowed"));
  }
  if (!IsValidUtf8(source)) return absl::InvalidArgumentError("chat template: not UTF-8");
  ASSIGN_OR_RETURN(std::vector<Token> tokens, Tokenize(source));
  return Parser(std::move(tokens)).ParseBody({});
}

bool Parser::SkipOperator(std::string_view op) {
  if (!IsOperator(op)) return false;
  Next();
  return true;
}

bool Parser::SkipName(std::string_view name) {
  if (!IsName(name)) return false;
  Next();
  return true;
}

absl::Status Parser::Unexpected(std::string_view wanted) const {
  return Error(absl::StrCat("expected ", View(wanted), ", found ", Describe(Current())));
}

absl::Status Parser::ExpectOperator(std::string_view op) {
  if (!SkipOperator(op)) return Unexpected(absl::StrCat("\"", View(op), "\""));
  return absl::OkStatus();
}

absl::Status Parser::ExpectName(std::string_view name) {
  if (!SkipName(name)) return Unexpected(absl::StrCat("\"", View(name), "\""));
  return absl::OkStatus();
}

absl::StatusOr<std::string> Parser::ExpectIdentifier() {
  if (Current().kind != TokenKind::kName) return Unexpected("a name");
  std::string name = Current().text;
  Next();
  return name;
}

absl::Status Parser::ExpectBlockEnd() {
  if (Current().kind != TokenKind::kBlockEnd) return Unexpected("\"%}\"");
  Next();
  return absl::OkStatus();
}

absl::StatusOr<Body> Parser::ParseBody(const std::vector<std::string_view>& end_tags) {
  if (++nesting_ > kMaxNesting) return Error("statements are nested too deeply");
  Body body;
  while (true) {
    const Token& token = Current();
    if (token.kind == TokenKind::kEnd) {
      if (!end_tags.empty()) return Unexpected(absl::StrCat("\"", View(end_tags.back()), "\""));
      break;
    }
    if (token.kind == TokenKind::kText) {
      body.push_back(NewStatement(StatementKind::kText, token.line));
      body.back()->text = token.text;
      Next();
    } else if (token.kind == TokenKind::kVariableBegin) {
      body.push_back(NewStatement(StatementKind::kOutput, token.line));
      Next();
      ASSIGN_OR_RETURN(body.back()->expression, ParseTuple(true));
      if (Current().kind != TokenKind::kVariableEnd) return Unexpected("\"}}\"");
      Next();
    } else {
      Next();  // {%
      if (Current().kind == TokenKind::kName &&
          std::find(end_tags.begin(), end_tags.end(), Current().text) != end_tags.end()) {
        break;
      }
      ASSIGN_OR_RETURN(std::unique_ptr<Statement> statement, ParseStatement());
      body.push_back(std::move(statement));
    }
  }
  --nesting_;
  return body;
}

absl::StatusOr<Body> Parser::ParseBodyUntil(std::string_view end_tag) {
  RETURN_IF_ERROR(ExpectBlockEnd());
  ASSIGN_OR_RETURN(Body body, ParseBody({end_tag}));
  Next();  // the end tag's name
  RETURN_IF_ERROR(ExpectBlockEnd());
  return body;
}

Parser::StatementOr Parser::ParseStatement() {
  if (Current().kind != TokenKind::kName) return Unexpected("a statement");
  const std::string& tag = Current().text;
  if (tag == "for") return ParseFor();
  if (tag == "if") return ParseIf();
  if (tag == "set") return ParseSet();
  if (tag == "macro") return ParseMacro();
  if (tag == "generation") return ParseGeneration();
  if (tag == "break") return ParseLoopControl(StatementKind::kBreak);
  if (tag == "continue") return ParseLoopControl(StatementKind::kContinue);
  return Error(absl::StrCat("the statement \"", tag, "\" is not supported"));
}

// a | a, b | (a, b) | a.b
absl::StatusOr<Target> Parser::ParseTarget(bool allow_attribute) {
  Target target;
  const bool parenthesis = SkipOperator("(");
  ASSIGN_OR_RETURN(std::string first, ExpectIdentifier());
  target.names.push_back(std::move(first));
  if (allow_attribute && !parenthesis && SkipOperator(".")) {
    ASSIGN_OR_RETURN(target.attribute, ExpectIdentifier());
    return target;
  }
  while (SkipOperator(",")) {
    target.unpacks = true;
    if (Current().kind != TokenKind::kName || IsName("in")) break;
    ASSIGN_OR_RETURN(std::string name, ExpectIdentifier());
    target.names.push_back(std::move(name));
  }
  if (parenthesis) RETURN_IF_ERROR(ExpectOperator(")"));
  for (const std::string& name : target.names) {
    if (name == "loop" || name == "true" || name == "false" || name == "none" || name == "True" ||
        name == "False" || name == "None") {
      return Error(absl::StrCat("\"", name, "\" cannot be assigned to"));
    }
  }
  return target;
}

Parser::StatementOr Parser::ParseFor() {
  auto statement = NewStatement(StatementKind::kFor, Current().line);
  Next();
  ASSIGN_OR_RETURN(statement->target, ParseTarget(false));
  RETURN_IF_ERROR(ExpectName("in"));
  ASSIGN_OR_RETURN(statement->expression, ParseTuple(false));
  if (SkipName("if")) {
    ASSIGN_OR_RETURN(statement->condition, ParseExpression());
  }
  if (IsName("recursive")) return Error("recursive loops are not supported");
  RETURN_IF_ERROR(ExpectBlockEnd());
  const bool outer_scope = std::exchange(in_scope_, true);
  ++loops_;
  ASSIGN_OR_RETURN(statement->body, ParseBody({"else", "endfor"}));
  --loops_;
  if (SkipName("else")) {
    RETURN_IF_ERROR(ExpectBlockEnd());
    ASSIGN_OR_RETURN(statement->other, ParseBody({"endfor"}));
  }
  in_scope_ = outer_scope;
  Next();  // endfor
  RETURN_IF_ERROR(ExpectBlockEnd());
  return statement;
}

Parser::StatementOr Parser::ParseIf() {
  auto statement = NewStatement(StatementKind::kIf, Current().line);
  do {
    Next();  // if, elif
    Branch branch;
    ASSIGN_OR_RETURN(branch.condition, ParseTuple(false));
    RETURN_IF_ERROR(ExpectBlockEnd());
    ASSIGN_OR_RETURN(branch.body, ParseBody({"elif", "else", "endif"}));
    statement->branches.push_back(std::move(branch));
  } while (IsName("elif"));
  if (SkipName("else")) {
    RETURN_IF_ERROR(ExpectBlockEnd());
    ASSIGN_OR_RETURN(statement->other, ParseBody({"endif"}));
  }
  Next();  // endif
  RETURN_IF_ERROR(ExpectBlockEnd());
  return statement;
}

Parser::StatementOr Parser::ParseSet() {
  auto statement = NewStatement(StatementKind::kSet, Current().line);
  Next();
  ASSIGN_OR_RETURN(statement->target, ParseTarget(true));
  if (SkipOperator("=")) {
    ASSIGN_OR_RETURN(statement->expression, ParseTuple(true));
    RETURN_IF_ERROR(ExpectBlockEnd());
    return statement;
  }
  statement->kind = StatementKind::kSetBlock;
  if (statement->target.unpacks) return Unexpected("\"=\"");
  if (IsOperator("|")) {
    ASSIGN_OR_RETURN(ExpressionPtr input,
                     Make(ExpressionKind::kName, Current().line, {}, kBlockText));
    ASSIGN_OR_RETURN(statement->filter, ParseFilters(std::move(input)));
  }
  const bool outer_scope = std::exchange(in_scope_, true);
  ASSIGN_OR_RETURN(statement->body, ParseBodyUntil("endset"));
  in_scope_ = outer_scope;
  return statement;
}

absl::Status Parser::ParseParameters(std::vector<Parameter>& parameters) {
  RETURN_IF_ERROR(ExpectOperator("("));
  while (!IsOperator(")")) {
    if (!parameters.empty()) RETURN_IF_ERROR(ExpectOperator(","));
    Parameter parameter;
    ASSIGN_OR_RETURN(parameter.name, ExpectIdentifier());
    if (SkipOperator("=")) {
      ASSIGN_OR_RETURN(parameter.default_value, ParseExpression());
    } else if (!parameters.empty() && parameters.back().default_value != nullptr) {
      return Error("a parameter without a default follows one with a default");
    }
    parameters.push_back(std::move(parameter));
  }
  return ExpectOperator(")");
}

// Macros see the template's top-level variables, so they must be defined there.
Parser::StatementOr Parser::ParseMacro() {
  if (in_scope_) return Error("a macro inside a loop, a macro or a block is not supported");
  auto statement = NewStatement(StatementKind::kMacro, Current().line);
  Next();
  ASSIGN_OR_RETURN(statement->text, ExpectIdentifier());
  RETURN_IF_ERROR(ParseParameters(statement->parameters));
  in_scope_ = true;
  const int outer_loops = std::exchange(loops_, 0);
  ASSIGN_OR_RETURN(statement->body, ParseBodyUntil("endmacro"));
  loops_ = outer_loops;
  in_scope_ = false;
  return statement;
}

// `transformers` marks what the assistant generates with this block; it does not change the text.
Parser::StatementOr Parser::ParseGeneration() {
  auto statement = NewStatement(StatementKind::kScope, Current().line);
  Next();
  const bool outer_scope = std::exchange(in_scope_, true);
  const int outer_loops = std::exchange(loops_, 0);
  ASSIGN_OR_RETURN(statement->body, ParseBodyUntil("endgeneration"));
  loops_ = outer_loops;
  in_scope_ = outer_scope;
  return statement;
}

Parser::StatementOr Parser::ParseLoopControl(StatementKind kind) {
  if (loops_ == 0) return Error(absl::StrCat("\"", Current().text, "\" outside of a loop"));
  auto statement = NewStatement(kind, Current().line);
  Next();
  RETURN_IF_ERROR(ExpectBlockEnd());
  return statement;
}

}  // namespace baton::jinja
