#include "engine/tokenizer/jinja/tests.h"

#include <algorithm>
#include <string>

#include "absl/status/status.h"
#include "absl/strings/str_cat.h"
#include "common/check.h"
#include "common/strings.h"
#include "engine/tokenizer/jinja/operators.h"
#include "engine/tokenizer/jinja/text.h"
#include "engine/tokenizer/unicode/character.h"
#include "engine/tokenizer/unicode/utf8.h"

namespace baton::jinja {
namespace {

using Kind = Value::Kind;

struct SimpleTest {
  std::string_view name;
  bool (*holds)(const Value& value);
};

// Tests without an argument.
constexpr SimpleTest kSimpleTests[] = {
    {"defined", [](const Value& v) { return !v.IsUndefined(); }},
    {"undefined", [](const Value& v) { return v.IsUndefined(); }},
    {"none", [](const Value& v) { return v.IsNone(); }},
    {"boolean", [](const Value& v) { return v.IsBool(); }},
    {"true", [](const Value& v) { return v.IsBool() && v.boolean(); }},
    {"false", [](const Value& v) { return v.IsBool() && !v.boolean(); }},
    {"integer", [](const Value& v) { return v.IsInt(); }},
    {"float", [](const Value& v) { return v.IsFloat(); }},
    {"number", [](const Value& v) { return v.IsNumber(); }},
    {"string", [](const Value& v) { return v.IsString(); }},
    {"mapping", [](const Value& v) { return v.IsDict(); }},
    {"sequence",
     [](const Value& v) { return v.IsString() || v.IsList() || v.IsDict() || v.IsUndefined(); }},
    {"iterable",
     [](const Value& v) { return v.IsString() || v.IsList() || v.IsDict() || v.IsUndefined(); }},
    {"callable",
     [](const Value& v) {
       return v.kind() == Kind::kMacro || v.kind() == Kind::kFunction ||
              v.kind() == Kind::kMethod || v.IsUndefined();
     }},
};

// Other names for the comparisons, which take one argument.
constexpr std::pair<std::string_view, std::string_view> kComparisons[] = {
    {"eq", "=="}, {"equalto", "=="}, {"ne", "!="},         {"lt", "<"},  {"lessthan", "<"},
    {"le", "<="}, {"gt", ">"},       {"greaterthan", ">"}, {"ge", ">="}, {"in", "in"},
};

const SimpleTest* FindSimple(std::string_view name) {
  for (const SimpleTest& test : kSimpleTests) {
    if (test.name == name) return &test;
  }
  return nullptr;
}

std::string_view FindComparison(std::string_view name) {
  for (const auto& [test, op] : kComparisons) {
    if (test == name) return op;
  }
  return {};
}

bool IsOther(std::string_view name) {
  static constexpr std::string_view kNames[] = {"odd",    "even",  "divisibleby",
                                                "sameas", "lower", "upper"};
  return std::find(std::begin(kNames), std::end(kNames), name) != std::end(kNames);
}

absl::StatusOr<bool> Divides(const Value& subject, int64_t divisor, int64_t remainder) {
  ASSIGN_OR_RETURN(const Value rest, ApplyBinary("%", subject, Value::Int(divisor)));
  return Equal(rest, Value::Int(remainder));
}

// str.islower and str.isupper: some character has case, and none has the other.
absl::StatusOr<bool> HasCase(const Value& subject, bool lower) {
  ASSIGN_OR_RETURN(const std::string text, Str(subject));
  bool cased = false;
  for (size_t pos = 0; pos < text.size() && !cased;) {
    const Utf8Char c = DecodeUtf8(text, pos);
    cased = IsCased(c.code_point);
    pos += c.length_bytes;
  }
  return cased && (lower ? ToLower(text) : ToUpper(text)) == text;
}

}  // namespace

bool IsTest(std::string_view name) {
  return FindSimple(name) != nullptr || !FindComparison(name).empty() || IsOther(name);
}

absl::StatusOr<bool> ApplyTest(std::string_view name, const Value& subject,
                               const Arguments& arguments) {
  const std::string_view comparison = FindComparison(name);
  const bool takes_argument = !comparison.empty() || name == "divisibleby" || name == "sameas";
  if (!arguments.named.empty() || arguments.positional.size() != (takes_argument ? 1 : 0)) {
    return absl::InvalidArgumentError(absl::StrCat("the test \"", View(name), "\" takes ",
                                                   takes_argument ? "one" : "no", " argument"));
  }
  if (const SimpleTest* test = FindSimple(name)) return test->holds(subject);
  if (!comparison.empty()) return Compare(comparison, subject, arguments.positional[0]);
  if (name == "odd") return Divides(subject, 2, 1);
  if (name == "even") return Divides(subject, 2, 0);
  if (name == "lower" || name == "upper") return HasCase(subject, name == "lower");
  const Value& argument = arguments.positional[0];
  if (name == "divisibleby") {
    if (!argument.IsIntegral()) return absl::InvalidArgumentError("the divisor must be an integer");
    return Divides(subject, argument.integer(), 0);
  }
  return subject.kind() == argument.kind() && Equal(subject, argument);  // sameas
}

}  // namespace baton::jinja
