#include "engine/tokenizer/jinja/methods.h"

#include <algorithm>
#include <string>
#include <utility>

#include "absl/status/status.h"
#include "absl/strings/str_cat.h"
#include "common/check.h"
#include "common/strings.h"
#include "engine/tokenizer/jinja/operators.h"
#include "engine/tokenizer/jinja/text.h"
#include "engine/tokenizer/jinja/text_functions.h"
#include "engine/tokenizer/unicode/character.h"
#include "engine/tokenizer/unicode/utf8.h"

namespace baton::jinja {
namespace {

using Result = absl::StatusOr<Value>;

Result StripMethod(const std::string& text, const BoundArguments& arguments, bool left,
                   bool right) {
  const Value* characters = arguments.Find(0);
  std::string_view out = text;
  if (characters == nullptr || characters->IsNone()) {
    if (left) out = StripLeft(out);
    if (right) out = StripRight(out);
  } else {
    ASSIGN_OR_RETURN(const std::string set, arguments.Text(0, ""));
    if (left) out = StripLeft(out, set);
    if (right) out = StripRight(out, set);
  }
  return Value::String(std::string(out));
}

Result Strip(const std::string& text, const BoundArguments& a) {
  return StripMethod(text, a, true, true);
}
Result LStrip(const std::string& text, const BoundArguments& a) {
  return StripMethod(text, a, true, false);
}
Result RStrip(const std::string& text, const BoundArguments& a) {
  return StripMethod(text, a, false, true);
}

Result SplitMethod(const std::string& text, const BoundArguments& arguments, bool from_right) {
  ASSIGN_OR_RETURN(const int64_t most, arguments.Integer(1, -1));
  const Value* separator = arguments.Find(0);
  if (separator == nullptr || separator->IsNone()) {
    if (from_right && most >= 0) {
      return absl::InvalidArgumentError("rsplit with maxsplit needs a separator");
    }
    return Value::NewList(SplitAtSpace(text, most));
  }
  ASSIGN_OR_RETURN(const std::string at, arguments.Text(0, ""));
  if (at.empty()) return absl::InvalidArgumentError("empty separator");
  return Value::NewList(SplitAt(text, at, most, from_right));
}

Result Split(const std::string& text, const BoundArguments& a) {
  return SplitMethod(text, a, false);
}
Result RSplit(const std::string& text, const BoundArguments& a) {
  return SplitMethod(text, a, true);
}

Result SplitLines(const std::string& text, const BoundArguments& arguments) {
  return Value::NewList(jinja::SplitLines(text, arguments.Flag(0, false)));
}

// startswith and endswith: one string or a tuple of them.
Result Affix(const std::string& text, const BoundArguments& arguments, bool at_start) {
  ASSIGN_OR_RETURN(const Value wanted, arguments.Get(0));
  const auto matches = [&](const Value& affix) {
    return at_start ? text.starts_with(affix.text()) : text.ends_with(affix.text());
  };
  if (wanted.IsString()) return Value::Bool(matches(wanted));
  if (wanted.IsList() && wanted.is_tuple() &&
      std::all_of(wanted.items().begin(), wanted.items().end(),
                  [](const Value& each) { return each.IsString(); })) {
    return Value::Bool(std::any_of(wanted.items().begin(), wanted.items().end(), matches));
  }
  return absl::InvalidArgumentError("expected a string or a tuple of strings");
}

Result StartsWith(const std::string& text, const BoundArguments& a) { return Affix(text, a, true); }
Result EndsWith(const std::string& text, const BoundArguments& a) { return Affix(text, a, false); }

Result RemovePrefix(const std::string& text, const BoundArguments& arguments) {
  ASSIGN_OR_RETURN(const std::string prefix, arguments.Text(0, ""));
  return Value::String(text.starts_with(prefix) ? text.substr(prefix.size()) : text);
}

Result RemoveSuffix(const std::string& text, const BoundArguments& arguments) {
  ASSIGN_OR_RETURN(const std::string suffix, arguments.Text(0, ""));
  return Value::String(text.ends_with(suffix) ? text.substr(0, text.size() - suffix.size()) : text);
}

Result Replace(const std::string& text, const BoundArguments& arguments) {
  ASSIGN_OR_RETURN(const Value pattern, arguments.Get(0));
  ASSIGN_OR_RETURN(const Value content, arguments.Get(1));
  ASSIGN_OR_RETURN(const int64_t count, arguments.Integer(2, -1));
  if (!pattern.IsString() || !content.IsString()) {
    return absl::InvalidArgumentError("replace takes strings");
  }
  ASSIGN_OR_RETURN(std::string out, ReplaceText(text, pattern.text(), content.text(), count));
  return Value::String(std::move(out));
}

// The character index of the first or last occurrence, or -1.
Result FindText(const std::string& text, const BoundArguments& arguments, bool last) {
  ASSIGN_OR_RETURN(const std::string wanted, arguments.Text(0, ""));
  const size_t at = last ? text.rfind(wanted) : text.find(wanted);
  if (at == std::string::npos) return Value::Int(-1);
  return Value::Int(static_cast<int64_t>(CountCharacters(std::string_view(text).substr(0, at))));
}

Result Find(const std::string& text, const BoundArguments& a) { return FindText(text, a, false); }
Result RFind(const std::string& text, const BoundArguments& a) { return FindText(text, a, true); }

Result Count(const std::string& text, const BoundArguments& arguments) {
  ASSIGN_OR_RETURN(const std::string wanted, arguments.Text(0, ""));
  if (wanted.empty()) return Value::Int(static_cast<int64_t>(CountCharacters(text)) + 1);
  int64_t count = 0;
  for (size_t at = text.find(wanted); at != std::string::npos;
       at = text.find(wanted, at + wanted.size())) {
    ++count;
  }
  return Value::Int(count);
}

Result Upper(const std::string& text, const BoundArguments&) {
  return Value::String(ToUpper(text));
}
Result Lower(const std::string& text, const BoundArguments&) {
  return Value::String(ToLower(text));
}
Result Title(const std::string& text, const BoundArguments&) {
  return Value::String(TitleWords(text));
}
Result CapitalizeMethod(const std::string& text, const BoundArguments&) {
  return Value::String(Capitalize(text));
}

Result Join(const std::string& text, const BoundArguments& arguments) {
  ASSIGN_OR_RETURN(const Value list, arguments.Get(0));
  ASSIGN_OR_RETURN(const Items items, Iterate(list));
  for (const Value& item : items) {
    if (!item.IsString()) return absl::InvalidArgumentError("join takes strings");
  }
  ASSIGN_OR_RETURN(std::string out, JoinText(items, text));
  return Value::String(std::move(out));
}

Result AllCharacters(const std::string& text, bool (*holds)(char32_t)) {
  for (size_t pos = 0; pos < text.size();) {
    const Utf8Char c = DecodeUtf8(text, pos);
    if (!holds(c.code_point)) return Value::Bool(false);
    pos += c.length_bytes;
  }
  return Value::Bool(!text.empty());
}

Result IsDigitMethod(const std::string& text, const BoundArguments&) {
  return AllCharacters(text, IsDecimalDigit);
}
Result IsAlphaMethod(const std::string& text, const BoundArguments&) {
  return AllCharacters(text, IsLetter);
}
Result IsSpaceMethod(const std::string& text, const BoundArguments&) {
  return AllCharacters(text, IsPythonSpace);
}

struct StringMethod {
  std::string_view name;
  Result (*call)(const std::string& text, const BoundArguments& arguments);
  std::vector<std::string_view> parameters;
};

const std::vector<StringMethod>& StringMethods() {
  static const auto* const kMethods = new std::vector<StringMethod>{
      {"strip", Strip, {"chars"}},
      {"lstrip", LStrip, {"chars"}},
      {"rstrip", RStrip, {"chars"}},
      {"split", Split, {"sep", "maxsplit"}},
      {"rsplit", RSplit, {"sep", "maxsplit"}},
      {"splitlines", SplitLines, {"keepends"}},
      {"startswith", StartsWith, {"prefix"}},
      {"endswith", EndsWith, {"suffix"}},
      {"removeprefix", RemovePrefix, {"prefix"}},
      {"removesuffix", RemoveSuffix, {"suffix"}},
      {"replace", Replace, {"old", "new", "count"}},
      {"find", Find, {"sub"}},
      {"rfind", RFind, {"sub"}},
      {"count", Count, {"sub"}},
      {"upper", Upper, {}},
      {"lower", Lower, {}},
      {"title", Title, {}},
      {"capitalize", CapitalizeMethod, {}},
      {"join", Join, {"iterable"}},
      {"isdigit", IsDigitMethod, {}},
      {"isalpha", IsAlphaMethod, {}},
      {"isspace", IsSpaceMethod, {}},
  };
  return *kMethods;
}

const StringMethod* FindStringMethod(std::string_view name) {
  for (const StringMethod& method : StringMethods()) {
    if (method.name == name) return &method;
  }
  return nullptr;
}

Result CallDictMethod(const Dict& dict, std::string_view name, const Arguments& arguments) {
  if (name == "get") {
    static constexpr std::string_view kParameters[] = {"key", "default"};
    ASSIGN_OR_RETURN(const BoundArguments bound, BoundArguments::Bind(arguments, kParameters));
    ASSIGN_OR_RETURN(const Value key, bound.Get(0));
    const Value* found = key.IsString() ? dict.Find(key.text()) : nullptr;
    if (found != nullptr) return *found;
    return bound.Find(1) == nullptr ? Value() : *bound.Find(1);
  }
  RETURN_IF_ERROR(BoundArguments::Bind(arguments, {}).status());
  Items items;
  for (const auto& [key, value] : dict.entries()) {
    if (name == "keys") {
      items.push_back(Value::String(key));
    } else if (name == "values") {
      items.push_back(value);
    } else if (name == "items") {
      items.push_back(Value::Tuple({Value::String(key), value}));
    } else {
      return absl::InvalidArgumentError(
          absl::StrCat("the dict method \"", View(name), "\" is not supported"));
    }
  }
  return Value::NewList(std::move(items));
}

}  // namespace

bool IsStringMethod(std::string_view name) { return FindStringMethod(name) != nullptr; }

bool IsDictMethod(std::string_view name) {
  static constexpr std::string_view kNames[] = {"clear",      "copy",   "fromkeys", "get",
                                                "items",      "keys",   "pop",      "popitem",
                                                "setdefault", "update", "values"};
  return std::find(std::begin(kNames), std::end(kNames), name) != std::end(kNames);
}

bool IsMethod(std::string_view name) {
  return IsStringMethod(name) || name == "get" || name == "items" || name == "keys" ||
         name == "values" || name == "cycle";
}

absl::StatusOr<Value> CallMethod(const Value& object, std::string_view name,
                                 const Arguments& arguments) {
  if (object.IsUndefined()) return absl::InvalidArgumentError(object.missing());
  if (object.IsString()) {
    if (const StringMethod* method = FindStringMethod(name)) {
      ASSIGN_OR_RETURN(const BoundArguments bound,
                       BoundArguments::Bind(arguments, method->parameters));
      return method->call(object.text(), bound);
    }
  }
  if (object.IsDict() && IsDictMethod(name)) return CallDictMethod(object.dict(), name, arguments);
  if (object.kind() == Value::Kind::kLoop && name == "cycle") {
    if (arguments.positional.empty()) {
      return absl::InvalidArgumentError("loop.cycle needs something to cycle through");
    }
    return arguments.positional[object.loop().index % arguments.positional.size()];
  }
  return absl::InvalidArgumentError(
      absl::StrCat("'", View(object.TypeName()), " object' has no method '", View(name), "'"));
}

}  // namespace baton::jinja
