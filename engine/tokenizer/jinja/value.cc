#include "engine/tokenizer/jinja/value.h"

#include <algorithm>

#include "common/strings.h"

namespace baton::jinja {
namespace {

// From this many entries on, a dict keeps an index.
constexpr size_t kIndexedDictEntries = 12;

}  // namespace

Value Value::MakeUndefined(std::string what) {
  return Value(Data(Undefined{std::make_shared<const std::string>(std::move(what))}));
}

Value Value::String(std::string text) {
  return Value(Data(std::make_shared<const std::string>(std::move(text))));
}

Value Value::NewSequence(Items items, bool is_tuple) {
  int depth = 0;
  for (const Value& item : items) depth = std::max(depth, item.depth());
  return Value(Data(std::make_shared<const List>(List{std::move(items), is_tuple, depth + 1})));
}

Value Value::NewDict(Dict dict) {
  return Value(Data(std::make_shared<const Dict>(std::move(dict))));
}

const Items& Value::items() const { return std::get<ListPtr>(data_)->items; }
bool Value::is_tuple() const { return std::get<ListPtr>(data_)->is_tuple; }

bool Value::Truth() const {
  switch (kind()) {
    case Kind::kUndefined:
    case Kind::kNone:
      return false;
    case Kind::kBool:
      return boolean();
    case Kind::kInt:
      return integer() != 0;
    case Kind::kFloat:
      return number() != 0.0;
    case Kind::kString:
      return !text().empty();
    case Kind::kList:
      return !items().empty();
    case Kind::kDict:
      return dict().size() > 0;
    case Kind::kNamespace:
    case Kind::kLoop:
    case Kind::kMacro:
    case Kind::kFunction:
    case Kind::kMethod:
      return true;
  }
  return true;
}

std::string_view Value::TypeName() const {
  switch (kind()) {
    case Kind::kUndefined:
      return "undefined";
    case Kind::kNone:
      return "None";
    case Kind::kBool:
      return "bool";
    case Kind::kInt:
      return "int";
    case Kind::kFloat:
      return "float";
    case Kind::kString:
      return "str";
    case Kind::kList:
      return is_tuple() ? "tuple" : "list";
    case Kind::kDict:
      return "dict";
    case Kind::kNamespace:
      return "namespace";
    case Kind::kLoop:
      return "loop";
    case Kind::kMacro:
      return "macro";
    case Kind::kFunction:
      return "function";
    case Kind::kMethod:
      return "method";
  }
  return "?";
}

int Value::depth() const {
  if (IsList()) return std::get<ListPtr>(data_)->depth;
  return IsDict() ? dict().depth() : 0;
}

size_t Value::SizeBytes() const {
  if (IsString()) return text().size();
  if (IsList()) return items().size() * sizeof(Value);
  return IsDict() ? dict().size() * sizeof(Value) * 2 : 0;
}

void Dict::Set(std::string key, Value value) {
  depth_ = std::max(depth_, value.depth() + 1);
  if (const Value* found = Find(key)) {
    const auto at = std::find_if(entries_.begin(), entries_.end(),
                                 [found](const auto& entry) { return &entry.second == found; });
    at->second = std::move(value);
    return;
  }
  if (!index_.empty()) index_.emplace(key, entries_.size());
  entries_.emplace_back(std::move(key), std::move(value));
  if (index_.empty() && entries_.size() == kIndexedDictEntries) {
    for (size_t i = 0; i < entries_.size(); ++i) index_.emplace(entries_[i].first, i);
  }
}

const Value* Dict::Find(std::string_view key) const {
  if (!index_.empty()) {
    const auto it = index_.find(View(key));
    return it == index_.end() ? nullptr : &entries_[it->second].second;
  }
  for (const auto& [name, value] : entries_) {
    if (name == key) return &value;
  }
  return nullptr;
}

void Namespace::Set(std::string_view name, Value value) {
  for (auto& [known, old] : attributes_) {
    if (known == name) {
      old = std::move(value);
      return;
    }
  }
  attributes_.emplace_back(name, std::move(value));
}

const Value* Namespace::Find(std::string_view name) const {
  for (const auto& [known, value] : attributes_) {
    if (known == name) return &value;
  }
  return nullptr;
}

bool Equal(const Value& a, const Value& b) {
  if (a.IsNumber() && b.IsNumber()) {
    if (a.IsIntegral() && b.IsIntegral()) return a.integer() == b.integer();
    return a.number() == b.number();
  }
  if (a.kind() != b.kind()) return false;
  switch (a.kind()) {
    case Value::Kind::kUndefined:
    case Value::Kind::kNone:
      return true;
    case Value::Kind::kString:
      return a.text() == b.text();
    case Value::Kind::kList:
      return a.is_tuple() == b.is_tuple() && std::equal(a.items().begin(), a.items().end(),
                                                        b.items().begin(), b.items().end(), Equal);
    case Value::Kind::kDict: {
      if (a.dict().size() != b.dict().size()) return false;
      for (const auto& [key, value] : a.dict().entries()) {
        const Value* other = b.dict().Find(key);
        if (other == nullptr || !Equal(value, *other)) return false;
      }
      return true;
    }
    case Value::Kind::kNamespace:
      return a.name_space() == b.name_space();
    case Value::Kind::kLoop:
      return &a.loop() == &b.loop();
    case Value::Kind::kMacro:
      return a.macro() == b.macro();
    case Value::Kind::kFunction:
      return a.function() == b.function();
    default:
      return false;
  }
}

}  // namespace baton::jinja
