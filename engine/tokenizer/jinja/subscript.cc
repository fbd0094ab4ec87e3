// Members, items and slices.
#include <algorithm>
#include <limits>

#include "absl/status/status.h"
#include "absl/strings/numbers.h"
#include "absl/strings/str_cat.h"
#include "common/check.h"
#include "common/strings.h"
#include "engine/tokenizer/jinja/methods.h"
#include "engine/tokenizer/jinja/operators.h"
#include "engine/tokenizer/jinja/text.h"
#include "engine/tokenizer/unicode/utf8.h"

namespace baton::jinja {
namespace {

Value NoAttribute(const Value& object, std::string_view name) {
  return Value::MakeUndefined(
      absl::StrCat("'", View(object.TypeName()), " object' has no attribute '", View(name), "'"));
}

// `loop.name`
Value LoopAttribute(const LoopState& loop, std::string_view name) {
  const auto integer = [](size_t value) { return Value::Int(static_cast<int64_t>(value)); };
  const size_t length = loop.items.size();
  if (name == "index") return integer(loop.index + 1);
  if (name == "index0") return integer(loop.index);
  if (name == "revindex") return integer(length - loop.index);
  if (name == "revindex0") return integer(length - loop.index - 1);
  if (name == "first") return Value::Bool(loop.index == 0);
  if (name == "last") return Value::Bool(loop.index + 1 == length);
  if (name == "length") return integer(length);
  if (name == "depth") return integer(1);  // counts recursion, which is not supported
  if (name == "depth0") return integer(0);
  if (name == "previtem") {
    return loop.index > 0 ? loop.items[loop.index - 1]
                          : Value::MakeUndefined("there is no previous item");
  }
  if (name == "nextitem") {
    return loop.index + 1 < length ? loop.items[loop.index + 1]
                                   : Value::MakeUndefined("there is no next item");
  }
  if (name == "cycle") return Value::OfMethod();
  return Value::MakeUndefined(absl::StrCat("'loop' has no attribute '", View(name), "'"));
}

// The positions that a slice of `length` items picks, after Python's PySlice_AdjustIndices.
absl::StatusOr<std::vector<size_t>> SlicePositions(int64_t length, const Value& start,
                                                   const Value& stop, const Value& step) {
  for (const Value* bound : {&start, &stop, &step}) {
    if (!bound->IsNone() && !bound->IsIntegral()) {
      return absl::InvalidArgumentError(
          absl::StrCat("a slice takes integers, not ", View(bound->TypeName())));
    }
  }
  const int64_t by = step.IsNone() ? 1 : step.integer();
  if (by == 0) return absl::InvalidArgumentError("a slice's step must not be zero");
  const int64_t low = by < 0 ? -1 : 0;
  const int64_t high = by < 0 ? length - 1 : length;
  const auto adjust = [&](const Value& bound, int64_t if_absent) {
    if (bound.IsNone()) return if_absent;
    int64_t at = bound.integer();
    if (at < 0) at = std::max(at, -length - 1) + length;
    return std::clamp(at, low, std::max(low, high));
  };
  const int64_t first = adjust(start, by < 0 ? high : 0);
  const int64_t end = adjust(stop, by < 0 ? -1 : length);
  std::vector<size_t> positions;
  for (int64_t at = first; by > 0 ? at < end : at > end;) {
    positions.push_back(static_cast<size_t>(at));
    if (__builtin_add_overflow(at, by, &at)) break;
  }
  return positions;
}

// The byte offset of each character, and the text's end.
std::vector<size_t> CharacterOffsets(std::string_view text) {
  std::vector<size_t> offsets;
  for (size_t pos = 0; pos < text.size(); pos = NextCharacter(text, pos)) offsets.push_back(pos);
  offsets.push_back(text.size());
  return offsets;
}

absl::StatusOr<Value> CharacterAt(const Value& object, int64_t index) {
  const std::string& text = object.text();
  const std::vector<size_t> offsets = CharacterOffsets(text);
  const auto length = static_cast<int64_t>(offsets.size()) - 1;
  if (index < 0) index += length;
  if (index < 0 || index >= length) return NoAttribute(object, "that index");
  const auto at = static_cast<size_t>(index);
  return Value::String(text.substr(offsets[at], offsets[at + 1] - offsets[at]));
}

}  // namespace

absl::StatusOr<Items> Iterate(const Value& value) {
  switch (value.kind()) {
    case Value::Kind::kUndefined:
      return Items();
    case Value::Kind::kList:
      return value.items();
    case Value::Kind::kDict: {
      Items keys;
      for (const auto& [key, item] : value.dict().entries()) keys.push_back(Value::String(key));
      return keys;
    }
    case Value::Kind::kString: {
      Items characters;
      const std::string& text = value.text();
      if (text.size() > kMaxTextBytes / sizeof(Value)) return TextTooLong();
      for (size_t pos = 0; pos < text.size();) {
        const size_t next = NextCharacter(text, pos);
        characters.push_back(Value::String(text.substr(pos, next - pos)));
        pos = next;
      }
      return characters;
    }
    default:
      return absl::InvalidArgumentError(
          absl::StrCat("a value of type ", View(value.TypeName()), " cannot be iterated"));
  }
}

absl::StatusOr<size_t> Length(const Value& value) {
  if (value.IsUndefined()) return 0;
  if (value.IsString()) return CountCharacters(value.text());
  if (value.IsList()) return value.items().size();
  if (value.IsDict()) return value.dict().size();
  return absl::InvalidArgumentError(
      absl::StrCat("a value of type ", View(value.TypeName()), " has no length"));
}

absl::StatusOr<Value> GetAttribute(const Value& object, std::string_view name) {
  switch (object.kind()) {
    case Value::Kind::kUndefined:
      return absl::InvalidArgumentError(object.missing());
    case Value::Kind::kDict: {
      // As in Python, a method hides a key of the same name.
      if (IsDictMethod(name)) return Value::OfMethod();
      const Value* found = object.dict().Find(name);
      return found != nullptr ? *found : NoAttribute(object, name);
    }
    case Value::Kind::kNamespace: {
      const Value* found = object.name_space()->Find(name);
      return found != nullptr ? *found : NoAttribute(object, name);
    }
    case Value::Kind::kLoop:
      return LoopAttribute(object.loop(), name);
    case Value::Kind::kString:
      return IsStringMethod(name) ? Value::OfMethod() : NoAttribute(object, name);
    default:
      return NoAttribute(object, name);
  }
}

absl::StatusOr<Value> GetItem(const Value& object, const Value& key) {
  if (object.IsUndefined()) return absl::InvalidArgumentError(object.missing());
  if (object.IsDict() && key.IsString()) {
    // As in Jinja, a key wins over a method here.
    if (const Value* found = object.dict().Find(key.text())) return *found;
    return GetAttribute(object, key.text());
  }
  if (key.IsIntegral() && object.IsString()) return CharacterAt(object, key.integer());
  if (key.IsIntegral() && object.IsList()) {
    const auto length = static_cast<int64_t>(object.items().size());
    const int64_t index = key.integer() < 0 ? key.integer() + length : key.integer();
    if (index >= 0 && index < length) return object.items()[static_cast<size_t>(index)];
    return Value::MakeUndefined(absl::StrCat("the list has no item ", key.integer()));
  }
  if (key.IsString()) return GetAttribute(object, key.text());
  return NoAttribute(object, "that index");
}

absl::StatusOr<Value> Slice(const Value& object, const Value& start, const Value& stop,
                            const Value& step) {
  if (object.IsUndefined()) return absl::InvalidArgumentError(object.missing());
  if (object.IsString()) {
    const std::string& text = object.text();
    const std::vector<size_t> offsets = CharacterOffsets(text);
    ASSIGN_OR_RETURN(const std::vector<size_t> positions,
                     SlicePositions(static_cast<int64_t>(offsets.size()) - 1, start, stop, step));
    std::string out;
    for (const size_t at : positions) out.append(text, offsets[at], offsets[at + 1] - offsets[at]);
    return Value::String(std::move(out));
  }
  if (!object.IsList()) {
    return absl::InvalidArgumentError(
        absl::StrCat("a value of type ", View(object.TypeName()), " cannot be sliced"));
  }
  ASSIGN_OR_RETURN(const std::vector<size_t> positions,
                   SlicePositions(static_cast<int64_t>(object.items().size()), start, stop, step));
  Items items;
  items.reserve(positions.size());
  for (const size_t at : positions) items.push_back(object.items()[at]);
  return object.is_tuple() ? Value::Tuple(std::move(items)) : Value::NewList(std::move(items));
}

absl::StatusOr<Value> GetPath(const Value& object, const Value& path) {
  if (!path.IsString()) return GetItem(object, path);
  Value at = object;
  std::string_view rest = path.text();
  while (true) {
    const size_t dot = rest.find('.');
    const std::string_view part = rest.substr(0, dot);
    int64_t index = 0;
    const Value key =
        absl::SimpleAtoi(View(part), &index) ? Value::Int(index) : Value::String(std::string(part));
    ASSIGN_OR_RETURN(at, GetItem(at, key));
    if (dot == std::string_view::npos) return at;
    rest.remove_prefix(dot + 1);
  }
}

}  // namespace baton::jinja
