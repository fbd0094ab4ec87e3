// Filters on texts and numbers.
#include <charconv>
#include <cmath>
#include <cstdio>
#include <string>

#include "absl/status/status.h"
#include "absl/strings/numbers.h"
#include "absl/strings/str_cat.h"
#include "absl/strings/str_format.h"
#include "common/check.h"
#include "common/strings.h"
#include "engine/tokenizer/jinja/filters.h"
#include "engine/tokenizer/jinja/json.h"
#include "engine/tokenizer/jinja/text.h"
#include "engine/tokenizer/jinja/text_functions.h"
#include "engine/tokenizer/unicode/character.h"
#include "engine/tokenizer/unicode/utf8.h"

namespace baton::jinja {
namespace {

using Result = absl::StatusOr<Value>;

Result Trim(const Value& input, const BoundArguments& arguments) {
  ASSIGN_OR_RETURN(const std::string text, Str(input));
  ASSIGN_OR_RETURN(const std::string characters, arguments.Text(0, ""));
  const bool has_set = arguments.Find(0) != nullptr && !arguments.Find(0)->IsNone();
  std::string_view out = has_set ? StripLeft(text, characters) : StripLeft(text);
  out = has_set ? StripRight(out, characters) : StripRight(out);
  return Value::String(std::string(out));
}

Result Upper(const Value& input, const BoundArguments&) {
  ASSIGN_OR_RETURN(const std::string text, Str(input));
  return Value::String(ToUpper(text));
}

Result Lower(const Value& input, const BoundArguments&) {
  ASSIGN_OR_RETURN(const std::string text, Str(input));
  return Value::String(ToLower(text));
}

Result CapitalizeFilter(const Value& input, const BoundArguments&) {
  ASSIGN_OR_RETURN(const std::string text, Str(input));
  return Value::String(Capitalize(text));
}

// Unlike str.title: words begin after white space and after - ( { [ <.
Result Title(const Value& input, const BoundArguments&) {
  ASSIGN_OR_RETURN(const std::string text, Str(input));
  std::string out;
  bool at_start = true;
  for (size_t pos = 0; pos < text.size();) {
    const Utf8Char c = DecodeUtf8(text, pos);
    const std::string_view character = std::string_view(text).substr(pos, c.length_bytes);
    const bool separates = IsPythonSpace(c.code_point) ||
                           std::string_view("-({[<").find(character) != std::string::npos;
    out += separates ? std::string(character) : at_start ? ToUpper(character) : ToLower(character);
    at_start = separates;
    pos += c.length_bytes;
  }
  return Value::String(std::move(out));
}

// Also "safe": nothing is escaped here.
Result ToText(const Value& input, const BoundArguments&) {
  ASSIGN_OR_RETURN(std::string text, Str(input));
  return Value::String(std::move(text));
}

Result Replace(const Value& input, const BoundArguments& arguments) {
  ASSIGN_OR_RETURN(const std::string text, Str(input));
  ASSIGN_OR_RETURN(const Value pattern, arguments.Get(0));
  ASSIGN_OR_RETURN(const Value content, arguments.Get(1));
  ASSIGN_OR_RETURN(const std::string old_text, Str(pattern));
  ASSIGN_OR_RETURN(const std::string new_text, Str(content));
  ASSIGN_OR_RETURN(const int64_t count, arguments.Integer(2, -1));
  ASSIGN_OR_RETURN(std::string out, ReplaceText(text, old_text, new_text, count));
  return Value::String(std::move(out));
}

// A number of spaces, or the text itself.
absl::StatusOr<std::string> IndentText(const Value* width, int64_t if_absent) {
  if (width != nullptr && width->IsString()) return width->text();
  const int64_t spaces = width != nullptr && width->IsIntegral() ? width->integer() : if_absent;
  if (spaces > 256) return absl::InvalidArgumentError("an indent is at most 256 spaces");
  return std::string(static_cast<size_t>(std::max<int64_t>(spaces, 0)), ' ');
}

Result Indent(const Value& input, const BoundArguments& arguments) {
  ASSIGN_OR_RETURN(std::string text, Str(input));
  ASSIGN_OR_RETURN(const std::string indent, IndentText(arguments.Find(0), 4));
  const bool first = arguments.Flag(1, false);
  const bool blank = arguments.Flag(2, false);
  text += "\n";  // as Jinja does, so that a text that ends in a line end keeps it
  const Items lines = SplitLines(text, false);
  std::string out;
  for (size_t i = 0; i < lines.size(); ++i) {
    const std::string& line = lines[i].text();
    if (i > 0) out += "\n";
    if (i == 0 ? first : blank || !line.empty()) out += indent;
    out += line;
    if (out.size() > kMaxTextBytes) return TextTooLong();
  }
  return Value::String(std::move(out));
}

// As `transformers` overrides it: json.dumps without HTML escapes.
Result ToJson(const Value& input, const BoundArguments& arguments) {
  JsonStyle style;
  style.ensure_ascii = arguments.Flag(0, false);
  const Value* indent = arguments.Find(1);
  if (indent != nullptr && !indent->IsNone()) {
    ASSIGN_OR_RETURN(style.indent, IndentText(indent, 0));
    style.item_separator = ",";
  }
  const Value* separators = arguments.Find(2);
  if (separators != nullptr && !separators->IsNone()) {
    if (!separators->IsList() || separators->items().size() != 2 ||
        !separators->items()[0].IsString() || !separators->items()[1].IsString()) {
      return absl::InvalidArgumentError("separators must be two strings");
    }
    style.item_separator = separators->items()[0].text();
    style.key_separator = separators->items()[1].text();
  }
  style.sort_keys = arguments.Flag(3, false);
  ASSIGN_OR_RETURN(std::string out, DumpJson(input, style));
  return Value::String(std::move(out));
}

// Text that a float literal could be, white space around it allowed.
std::optional<double> ParseFloat(const Value& input) {
  if (input.IsNumber()) return input.number();
  double value = 0.0;
  if (!input.IsString() || !absl::SimpleAtod(View(StripRight(StripLeft(input.text()))), &value)) {
    return std::nullopt;
  }
  return value;
}

Result ToInt(const Value& input, const BoundArguments& arguments) {
  if (input.IsUndefined()) return absl::InvalidArgumentError(input.missing());
  const Value if_not = arguments.Find(0) == nullptr ? Value::Int(0) : *arguments.Find(0);
  ASSIGN_OR_RETURN(const int64_t base, arguments.Integer(1, 10));
  if (base < 2 || base > 36) return absl::InvalidArgumentError("base must be from 2 to 36");
  if (input.IsIntegral()) return Value::Int(input.integer());
  if (input.IsString()) {
    std::string_view text = StripRight(StripLeft(input.text()));
    if (text.starts_with('+')) text.remove_prefix(1);
    int64_t value = 0;
    const auto [end, error] =
        std::from_chars(text.data(), text.data() + text.size(), value, static_cast<int>(base));
    if (error == std::errc() && end == text.data() + text.size()) return Value::Int(value);
  }
  const std::optional<double> value = ParseFloat(input);
  if (!value || !(std::abs(*value) < 9.2e18)) return if_not;
  return Value::Int(static_cast<int64_t>(*value));
}

Result ToFloat(const Value& input, const BoundArguments& arguments) {
  if (input.IsUndefined()) return absl::InvalidArgumentError(input.missing());
  if (const std::optional<double> value = ParseFloat(input)) return Value::Float(*value);
  return arguments.Find(0) == nullptr ? Value::Float(0.0) : *arguments.Find(0);
}

absl::Status NotANumber(const Value& input) {
  return absl::InvalidArgumentError(
      absl::StrCat("a number is expected, not ", View(input.TypeName())));
}

Result Abs(const Value& input, const BoundArguments&) {
  if (input.IsFloat()) return Value::Float(std::abs(input.number()));
  if (!input.IsIntegral() || input.integer() == INT64_MIN) return NotANumber(input);
  return Value::Int(std::abs(input.integer()));
}

Result Round(const Value& input, const BoundArguments& arguments) {
  if (!input.IsNumber()) return NotANumber(input);
  ASSIGN_OR_RETURN(const int64_t precision, arguments.Integer(0, 0));
  ASSIGN_OR_RETURN(const std::string method, arguments.Text(1, "common"));
  if (precision < 0 || precision > 15) {
    return absl::InvalidArgumentError("precision must be from 0 to 15");
  }
  if (method == "common") {
    if (input.IsIntegral()) return Value::Int(input.integer());
    // Printing rounds the exact binary value, ties to even, as Python's round().
    const std::string text = absl::StrFormat("%.*f", static_cast<int>(precision), input.number());
    double value = 0.0;
    if (!absl::SimpleAtod(text, &value)) return NotANumber(input);
    return Value::Float(value);
  }
  const double scale = std::pow(10.0, static_cast<double>(precision));
  if (method == "ceil") return Value::Float(std::ceil(input.number() * scale) / scale);
  if (method == "floor") return Value::Float(std::floor(input.number() * scale) / scale);
  return absl::InvalidArgumentError("method must be common, ceil or floor");
}

}  // namespace

const std::vector<Filter>& TextFilters() {
  static const auto* const kFilters = new std::vector<Filter>{
      {"trim", Trim, {"chars"}},
      {"upper", Upper, {}},
      {"lower", Lower, {}},
      {"capitalize", CapitalizeFilter, {}},
      {"title", Title, {}},
      {"string", ToText, {}},
      {"safe", ToText, {}},
      {"replace", Replace, {"old", "new", "count"}},
      {"indent", Indent, {"width", "first", "blank"}},
      {"tojson", ToJson, {"ensure_ascii", "indent", "separators", "sort_keys"}},
      {"int", ToInt, {"default", "base"}},
      {"float", ToFloat, {"default"}},
      {"abs", Abs, {}},
      {"round", Round, {"precision", "method"}},
  };
  return *kFilters;
}

}  // namespace baton::jinja
