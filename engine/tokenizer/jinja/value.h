// The values that a template computes with: those of Python that JSON can hold, and a few objects
// of Jinja's own.
//
// Lists and dicts never change once made (chat templates run in Jinja's immutable sandbox), so they
// are shared, acyclic, and know their depth. Only a Namespace can be assigned to.
#pragma once

#include <cstdint>
#include <memory>
#include <string>
#include <string_view>
#include <utility>
#include <variant>
#include <vector>

#include "absl/container/flat_hash_map.h"

namespace baton::jinja {

class Value;
class Dict;
class Namespace;
struct LoopState;
struct Statement;

using Items = std::vector<Value>;

// No value: a missing name or member. Prints as nothing; most uses of it are errors, which say
// `what` is missing.
struct Undefined {
  std::shared_ptr<const std::string> what;
};
struct None {};
// A method or macro named but not called, such as `message.items`. It is true and defined.
struct BoundMethod {};
// A global function ("range").
struct Function {
  std::string_view name;  // static storage
};

struct List;

class Value {
 public:
  enum class Kind {
    kUndefined,
    kNone,
    kBool,
    kInt,
    kFloat,
    kString,
    kList,
    kDict,
    kNamespace,
    kLoop,
    kMacro,
    kFunction,
    kMethod
  };

  Value() : data_(None{}) {}
  static Value MakeUndefined(std::string what);
  static Value Bool(bool value) { return Value(Data(value)); }
  static Value Int(int64_t value) { return Value(Data(value)); }
  static Value Float(double value) { return Value(Data(value)); }
  static Value String(std::string text);
  static Value NewList(Items items) { return NewSequence(std::move(items), false); }
  static Value Tuple(Items items) { return NewSequence(std::move(items), true); }
  static Value NewDict(Dict dict);
  // The namespace belongs to the rendering and outlives every value of it.
  static Value OfNamespace(Namespace* space) { return Value(Data(space)); }
  static Value OfLoop(std::shared_ptr<const LoopState> loop) {
    return Value(Data(std::move(loop)));
  }
  // The macro's statement belongs to the template.
  static Value OfMacro(const Statement* macro) { return Value(Data(macro)); }
  static Value OfFunction(std::string_view name) { return Value(Data(Function{name})); }
  static Value OfMethod() { return Value(Data(BoundMethod{})); }

  Kind kind() const { return static_cast<Kind>(data_.index()); }
  bool IsUndefined() const { return kind() == Kind::kUndefined; }
  bool IsNone() const { return kind() == Kind::kNone; }
  bool IsBool() const { return kind() == Kind::kBool; }
  bool IsInt() const { return kind() == Kind::kInt; }
  bool IsFloat() const { return kind() == Kind::kFloat; }
  bool IsString() const { return kind() == Kind::kString; }
  bool IsList() const { return kind() == Kind::kList; }
  bool IsDict() const { return kind() == Kind::kDict; }
  bool IsNumber() const { return IsBool() || IsInt() || IsFloat(); }
  bool IsIntegral() const { return IsBool() || IsInt(); }  // as in Python, True is 1

  // REQUIRES: the kind fits.
  const std::string& missing() const { return *std::get<Undefined>(data_).what; }
  bool boolean() const { return std::get<bool>(data_); }
  int64_t integer() const { return IsBool() ? boolean() : std::get<int64_t>(data_); }
  double number() const {
    return IsFloat() ? std::get<double>(data_) : static_cast<double>(integer());
  }
  const std::string& text() const { return *std::get<StringPtr>(data_); }
  const Items& items() const;
  bool is_tuple() const;
  const Dict& dict() const { return *std::get<DictPtr>(data_); }
  Namespace* name_space() const { return std::get<Namespace*>(data_); }
  const LoopState& loop() const { return *std::get<LoopPtr>(data_); }
  const Statement* macro() const { return std::get<const Statement*>(data_); }
  std::string_view function() const { return std::get<Function>(data_).name; }

  bool Truth() const;                 // Python's bool(value)
  std::string_view TypeName() const;  // "str", "int", …, for messages
  int depth() const;                  // levels of lists and dicts
  size_t SizeBytes() const;           // what making this value copied, roughly

 private:
  using StringPtr = std::shared_ptr<const std::string>;
  using ListPtr = std::shared_ptr<const List>;
  using DictPtr = std::shared_ptr<const Dict>;
  using LoopPtr = std::shared_ptr<const LoopState>;
  // In the order of Kind.
  using Data = std::variant<Undefined, None, bool, int64_t, double, StringPtr, ListPtr, DictPtr,
                            Namespace*, LoopPtr, const Statement*, Function, BoundMethod>;

  explicit Value(Data data) : data_(std::move(data)) {}
  static Value NewSequence(Items items, bool is_tuple);

  Data data_;
};

// String keys in the order of insertion.
class Dict {
 public:
  // A key given twice keeps its place and takes the new value, as in Python.
  void Set(std::string key, Value value);
  const Value* Find(std::string_view key) const;  // null: absent
  const std::vector<std::pair<std::string, Value>>& entries() const { return entries_; }
  size_t size() const { return entries_.size(); }
  int depth() const { return depth_; }

 private:
  std::vector<std::pair<std::string, Value>> entries_;
  absl::flat_hash_map<std::string, size_t> index_;  // filled once there are many entries
  int depth_ = 1;
};

struct List {
  Items items;
  bool is_tuple = false;
  int depth = 1;
};

// namespace(): attributes that inner scopes can assign to.
class Namespace {
 public:
  void Set(std::string_view name, Value value);
  const Value* Find(std::string_view name) const;

 private:
  std::vector<std::pair<std::string, Value>> attributes_;
};

// What `loop` shows inside a for statement.
struct LoopState {
  Items items;
  size_t index = 0;  // from 0
};

bool Equal(const Value& a, const Value& b);  // Python's ==

}  // namespace baton::jinja
