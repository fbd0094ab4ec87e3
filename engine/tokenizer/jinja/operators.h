// Python's operators on values. Errors carry no line: the evaluator adds it.
#pragma once

#include <string_view>
#include <vector>

#include "absl/status/statusor.h"
#include "engine/tokenizer/jinja/value.h"

namespace baton::jinja {

// + - * / // % **
absl::StatusOr<Value> ApplyBinary(std::string_view op, const Value& left, const Value& right);
absl::StatusOr<Value> Negate(const Value& value);
absl::StatusOr<Value> Concatenate(const std::vector<Value>& parts);  // ~

// -1, 0 or 1; an error for values that Python does not order.
absl::StatusOr<int> Order(const Value& left, const Value& right);
// == != < <= > >= in "not in"
absl::StatusOr<bool> Compare(std::string_view op, const Value& left, const Value& right);
absl::StatusOr<bool> Contains(const Value& container, const Value& item);

// subscript.cc
// The items that a for statement walks: a dict's keys, a string's characters, nothing for an
// undefined value.
absl::StatusOr<Items> Iterate(const Value& value);
absl::StatusOr<size_t> Length(const Value& value);
absl::StatusOr<Value> GetAttribute(const Value& object, std::string_view name);
absl::StatusOr<Value> GetItem(const Value& object, const Value& key);
// Absent bounds are None.
absl::StatusOr<Value> Slice(const Value& object, const Value& start, const Value& stop,
                            const Value& step);
// "a.b.0" or an integer, as the `attribute` argument of filters names a member.
absl::StatusOr<Value> GetPath(const Value& object, const Value& path);

}  // namespace baton::jinja
