#include "engine/tokenizer/jinja/operators.h"

#include <algorithm>
#include <cmath>
#include <limits>

#include "absl/status/status.h"
#include "absl/strings/str_cat.h"
#include "common/check.h"
#include "common/strings.h"
#include "engine/tokenizer/jinja/text.h"

namespace baton::jinja {
namespace {

absl::Status Unsupported(std::string_view op, const Value& left, const Value& right) {
  for (const Value* side : {&left, &right}) {
    if (side->IsUndefined()) return absl::InvalidArgumentError(side->missing());
  }
  return absl::InvalidArgumentError(absl::StrCat("operator ", View(op), " does not take ",
                                                 View(left.TypeName()), " and ",
                                                 View(right.TypeName())));
}

absl::Status Overflow() {
  return absl::InvalidArgumentError("an integer is out of the range of 64 bits");
}
absl::Status DivisionByZero() { return absl::InvalidArgumentError("division by zero"); }

// Python rounds towards minus infinity.
absl::StatusOr<Value> FloorDivide(int64_t a, int64_t b, bool want_remainder) {
  if (b == 0) return DivisionByZero();
  if (b == -1) {  // the one quotient that can overflow
    if (want_remainder) return Value::Int(0);
    if (a == std::numeric_limits<int64_t>::min()) return Overflow();
    return Value::Int(-a);
  }
  const int64_t remainder = a % b;
  const bool adjust = remainder != 0 && (remainder < 0) != (b < 0);
  return Value::Int(want_remainder ? remainder + (adjust ? b : 0) : a / b - (adjust ? 1 : 0));
}

absl::StatusOr<Value> IntegerPower(int64_t base, int64_t exponent) {
  if (exponent < 0) {
    if (base == 0) return DivisionByZero();
    return Value::Float(std::pow(static_cast<double>(base), static_cast<double>(exponent)));
  }
  int64_t result = 1;
  // A base of -1, 0 or 1 needs no more than two rounds; any other overflows within 63.
  int64_t rounds = base >= -1 && base <= 1 && exponent > 2 ? 2 + exponent % 2 : exponent;
  for (; rounds > 0; --rounds) {
    if (__builtin_mul_overflow(result, base, &result)) return Overflow();
  }
  return Value::Int(result);
}

absl::StatusOr<Value> IntegerArithmetic(std::string_view op, int64_t a, int64_t b) {
  int64_t result = 0;
  if (op == "+")
    return __builtin_add_overflow(a, b, &result) ? absl::StatusOr<Value>(Overflow())
                                                 : Value::Int(result);
  if (op == "-")
    return __builtin_sub_overflow(a, b, &result) ? absl::StatusOr<Value>(Overflow())
                                                 : Value::Int(result);
  if (op == "*")
    return __builtin_mul_overflow(a, b, &result) ? absl::StatusOr<Value>(Overflow())
                                                 : Value::Int(result);
  if (op == "//") return FloorDivide(a, b, false);
  if (op == "%") return FloorDivide(a, b, true);
  if (op == "**") return IntegerPower(a, b);
  if (b == 0) return DivisionByZero();
  return Value::Float(static_cast<double>(a) / static_cast<double>(b));
}

absl::StatusOr<Value> FloatArithmetic(std::string_view op, double a, double b) {
  if (op == "+") return Value::Float(a + b);
  if (op == "-") return Value::Float(a - b);
  if (op == "*") return Value::Float(a * b);
  if (op == "**") return Value::Float(std::pow(a, b));
  if (b == 0.0) return DivisionByZero();
  if (op == "/") return Value::Float(a / b);
  if (op == "//") return Value::Float(std::floor(a / b));
  double remainder = std::fmod(a, b);
  if (remainder != 0.0 && (remainder < 0.0) != (b < 0.0)) remainder += b;
  return Value::Float(remainder);
}

absl::StatusOr<Value> Repeat(const Value& value, int64_t count) {
  count = std::max<int64_t>(count, 0);
  const size_t size = value.IsString() ? value.text().size() : value.items().size();
  if (size > 0 && static_cast<uint64_t>(count) > kMaxTextBytes / sizeof(Value) / size) {
    return TextTooLong();
  }
  if (value.IsString()) {
    std::string out;
    out.reserve(size * static_cast<size_t>(count));
    for (int64_t i = 0; size > 0 && i < count; ++i) out += value.text();
    return Value::String(std::move(out));
  }
  Items items;
  for (int64_t i = 0; size > 0 && i < count; ++i) {
    items.insert(items.end(), value.items().begin(), value.items().end());
  }
  return value.is_tuple() ? Value::Tuple(std::move(items)) : Value::NewList(std::move(items));
}

}  // namespace

absl::StatusOr<Value> ApplyBinary(std::string_view op, const Value& left, const Value& right) {
  if (left.IsNumber() && right.IsNumber()) {
    if (left.IsIntegral() && right.IsIntegral()) {
      return IntegerArithmetic(op, left.integer(), right.integer());
    }
    return FloatArithmetic(op, left.number(), right.number());
  }
  if (op == "+" && left.IsString() && right.IsString()) {
    if (left.text().size() + right.text().size() > kMaxTextBytes) return TextTooLong();
    return Value::String(left.text() + right.text());
  }
  if (op == "+" && left.IsList() && right.IsList() && left.is_tuple() == right.is_tuple()) {
    if (left.items().size() + right.items().size() > kMaxTextBytes / sizeof(Value)) {
      return TextTooLong();
    }
    Items items = left.items();
    items.insert(items.end(), right.items().begin(), right.items().end());
    return left.is_tuple() ? Value::Tuple(std::move(items)) : Value::NewList(std::move(items));
  }
  if (op == "*" && (left.IsString() || left.IsList()) && right.IsIntegral()) {
    return Repeat(left, right.integer());
  }
  if (op == "*" && left.IsIntegral() && (right.IsString() || right.IsList())) {
    return Repeat(right, left.integer());
  }
  return Unsupported(op, left, right);
}

absl::StatusOr<Value> Negate(const Value& value) {
  if (value.IsIntegral()) {
    if (value.integer() == std::numeric_limits<int64_t>::min()) return Overflow();
    return Value::Int(-value.integer());
  }
  if (value.IsFloat()) return Value::Float(-value.number());
  return Unsupported("-", value, value);
}

absl::StatusOr<Value> Concatenate(const std::vector<Value>& parts) {
  std::string out;
  for (const Value& part : parts) {
    ASSIGN_OR_RETURN(const std::string text, Str(part));
    out += text;
    if (out.size() > kMaxTextBytes) return TextTooLong();
  }
  return Value::String(std::move(out));
}

absl::StatusOr<int> Order(const Value& left, const Value& right) {
  const auto sign = [](auto a, auto b) { return a < b ? -1 : a > b ? 1 : 0; };
  if (left.IsNumber() && right.IsNumber()) {
    if (left.IsIntegral() && right.IsIntegral()) return sign(left.integer(), right.integer());
    return sign(left.number(), right.number());
  }
  // UTF-8 sorts as its code points do.
  if (left.IsString() && right.IsString()) return sign(left.text().compare(right.text()), 0);
  if (left.IsList() && right.IsList() && left.is_tuple() == right.is_tuple()) {
    const size_t shared = std::min(left.items().size(), right.items().size());
    for (size_t i = 0; i < shared; ++i) {
      if (!Equal(left.items()[i], right.items()[i]))
        return Order(left.items()[i], right.items()[i]);
    }
    return sign(left.items().size(), right.items().size());
  }
  return Unsupported("<", left, right);
}

absl::StatusOr<bool> Compare(std::string_view op, const Value& left, const Value& right) {
  if (op == "==") return Equal(left, right);
  if (op == "!=") return !Equal(left, right);
  if (op == "in") return Contains(right, left);
  if (op == "not in") {
    ASSIGN_OR_RETURN(const bool found, Contains(right, left));
    return !found;
  }
  ASSIGN_OR_RETURN(const int order, Order(left, right));
  if (op == "<") return order < 0;
  if (op == "<=") return order <= 0;
  if (op == ">") return order > 0;
  return order >= 0;
}

absl::StatusOr<bool> Contains(const Value& container, const Value& item) {
  if (container.IsUndefined()) return false;
  if (container.IsString()) {
    if (!item.IsString()) return Unsupported("in", item, container);
    return container.text().find(item.text()) != std::string::npos;
  }
  if (container.IsDict()) return item.IsString() && container.dict().Find(item.text()) != nullptr;
  if (!container.IsList()) return Unsupported("in", item, container);
  return std::any_of(container.items().begin(), container.items().end(),
                     [&item](const Value& each) { return Equal(each, item); });
}

}  // namespace baton::jinja
