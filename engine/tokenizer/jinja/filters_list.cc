// Filters on lists and dicts.
#include <algorithm>

#include "absl/status/status.h"
#include "absl/strings/str_cat.h"
#include "common/check.h"
#include "common/strings.h"
#include "engine/tokenizer/jinja/filters.h"
#include "engine/tokenizer/jinja/operators.h"
#include "engine/tokenizer/jinja/text_functions.h"
#include "engine/tokenizer/unicode/character.h"

namespace baton::jinja {
namespace {

using Result = absl::StatusOr<Value>;

// `unique` compares each item with all before it.
constexpr size_t kMaxUniqueItems = 4096;

Result Default(const Value& input, const BoundArguments& arguments) {
  const bool replace = input.IsUndefined() || (arguments.Flag(1, false) && !input.Truth());
  if (!replace) return input;
  return arguments.Find(0) == nullptr ? Value::String("") : *arguments.Find(0);
}

Result LengthFilter(const Value& input, const BoundArguments&) {
  ASSIGN_OR_RETURN(const size_t length, Length(input));
  return Value::Int(static_cast<int64_t>(length));
}

Result First(const Value& input, const BoundArguments&) {
  ASSIGN_OR_RETURN(const Items items, Iterate(input));
  return items.empty() ? Value::MakeUndefined("no first item, the sequence was empty")
                       : items.front();
}

Result Last(const Value& input, const BoundArguments&) {
  ASSIGN_OR_RETURN(const Items items, Iterate(input));
  return items.empty() ? Value::MakeUndefined("no last item, the sequence was empty")
                       : items.back();
}

Result ListFilter(const Value& input, const BoundArguments&) {
  ASSIGN_OR_RETURN(Items items, Iterate(input));
  return Value::NewList(std::move(items));
}

Result Reverse(const Value& input, const BoundArguments&) {
  ASSIGN_OR_RETURN(Items items, Iterate(input));
  std::reverse(items.begin(), items.end());
  if (!input.IsString()) return Value::NewList(std::move(items));
  ASSIGN_OR_RETURN(std::string text, JoinText(items, ""));
  return Value::String(std::move(text));
}

Result ItemsFilter(const Value& input, const BoundArguments&) {
  Items out;
  if (input.IsUndefined()) return Value::NewList({});
  if (!input.IsDict()) return absl::InvalidArgumentError("items takes a dict");
  for (const auto& [key, value] : input.dict().entries()) {
    out.push_back(Value::Tuple({Value::String(key), value}));
  }
  return Value::NewList(std::move(out));
}

Result Join(const Value& input, const BoundArguments& arguments) {
  ASSIGN_OR_RETURN(Items items, Iterate(input));
  ASSIGN_OR_RETURN(const std::string separator, arguments.Text(0, ""));
  if (const Value* path = arguments.Find(1)) {
    for (Value& item : items) {
      ASSIGN_OR_RETURN(item, GetPath(item, *path));
    }
  }
  ASSIGN_OR_RETURN(std::string text, JoinText(items, separator));
  return Value::String(std::move(text));
}

// Each item with the value that orders it.
struct Keyed {
  Value key;
  Value item;
};

absl::StatusOr<std::vector<Keyed>> WithKeys(const Value& input, const Value* path,
                                            bool case_sensitive) {
  ASSIGN_OR_RETURN(const Items items, Iterate(input));
  std::vector<Keyed> keyed;
  keyed.reserve(items.size());
  for (const Value& item : items) {
    Value key = item;
    if (path != nullptr && !path->IsNone()) {
      if (path->IsString() && path->text().find(',') != std::string::npos) {
        return absl::InvalidArgumentError("only one attribute is supported");
      }
      ASSIGN_OR_RETURN(key, GetPath(item, *path));
    }
    if (!case_sensitive && key.IsString()) key = Value::String(ToLower(key.text()));
    keyed.push_back({std::move(key), item});
  }
  return keyed;
}

absl::Status SortByKey(std::vector<Keyed>& keyed, bool reverse) {
  absl::Status error;
  std::stable_sort(keyed.begin(), keyed.end(), [&](const Keyed& a, const Keyed& b) {
    absl::StatusOr<int> order = reverse ? Order(b.key, a.key) : Order(a.key, b.key);
    if (!order.ok()) {
      error.Update(order.status());
      return false;
    }
    return *order < 0;
  });
  return error;
}

Value ItemsOf(const std::vector<Keyed>& keyed) {
  Items items;
  for (const Keyed& each : keyed) items.push_back(each.item);
  return Value::NewList(std::move(items));
}

// sort(reverse, case_sensitive, attribute)
Result Sort(const Value& input, const BoundArguments& arguments) {
  ASSIGN_OR_RETURN(std::vector<Keyed> keyed,
                   WithKeys(input, arguments.Find(2), arguments.Flag(1, false)));
  RETURN_IF_ERROR(SortByKey(keyed, arguments.Flag(0, false)));
  return ItemsOf(keyed);
}

// dictsort(case_sensitive, by, reverse)
Result DictSort(const Value& input, const BoundArguments& arguments) {
  ASSIGN_OR_RETURN(const Value pairs, ItemsFilter(input, arguments));
  ASSIGN_OR_RETURN(const std::string by, arguments.Text(1, "key"));
  if (by != "key" && by != "value") {
    return absl::InvalidArgumentError("by must be \"key\" or \"value\"");
  }
  const Value path = Value::Int(by == "key" ? 0 : 1);
  ASSIGN_OR_RETURN(std::vector<Keyed> keyed, WithKeys(pairs, &path, arguments.Flag(0, false)));
  RETURN_IF_ERROR(SortByKey(keyed, arguments.Flag(2, false)));
  return ItemsOf(keyed);
}

// min and max (case_sensitive, attribute): the first of equals.
Result Extreme(const Value& input, const BoundArguments& arguments, int wanted) {
  ASSIGN_OR_RETURN(const std::vector<Keyed> keyed,
                   WithKeys(input, arguments.Find(1), arguments.Flag(0, false)));
  if (keyed.empty()) return Value::MakeUndefined("no item, the sequence was empty");
  const Keyed* best = &keyed.front();
  for (const Keyed& each : keyed) {
    ASSIGN_OR_RETURN(const int order, Order(each.key, best->key));
    if (order == wanted) best = &each;
  }
  return best->item;
}

Result Min(const Value& input, const BoundArguments& a) { return Extreme(input, a, -1); }
Result Max(const Value& input, const BoundArguments& a) { return Extreme(input, a, 1); }

// unique(case_sensitive, attribute)
Result Unique(const Value& input, const BoundArguments& arguments) {
  ASSIGN_OR_RETURN(const std::vector<Keyed> keyed,
                   WithKeys(input, arguments.Find(1), arguments.Flag(0, false)));
  if (keyed.size() > kMaxUniqueItems) {
    return absl::InvalidArgumentError(
        absl::StrCat("unique takes at most ", kMaxUniqueItems, " items"));
  }
  Items out;
  for (size_t i = 0; i < keyed.size(); ++i) {
    const auto here = keyed.begin() + static_cast<ptrdiff_t>(i);
    const bool seen = std::any_of(
        keyed.begin(), here, [&](const Keyed& before) { return Equal(before.key, keyed[i].key); });
    if (!seen) out.push_back(keyed[i].item);
  }
  return Value::NewList(std::move(out));
}

// sum(attribute, start)
Result Sum(const Value& input, const BoundArguments& arguments) {
  ASSIGN_OR_RETURN(const std::vector<Keyed> keyed, WithKeys(input, arguments.Find(0), true));
  Value total = arguments.Find(1) == nullptr ? Value::Int(0) : *arguments.Find(1);
  if (!total.IsNumber()) return absl::InvalidArgumentError("sum adds numbers");
  for (const Keyed& each : keyed) {
    ASSIGN_OR_RETURN(total, ApplyBinary("+", total, each.key));
  }
  return total;
}

}  // namespace

const std::vector<Filter>& ListFilters() {
  static const auto* const kFilters = new std::vector<Filter>{
      {"default", Default, {"default_value", "boolean"}},
      {"d", Default, {"default_value", "boolean"}},
      {"length", LengthFilter, {}},
      {"count", LengthFilter, {}},
      {"first", First, {}},
      {"last", Last, {}},
      {"list", ListFilter, {}},
      {"reverse", Reverse, {}},
      {"items", ItemsFilter, {}},
      {"join", Join, {"d", "attribute"}},
      {"sort", Sort, {"reverse", "case_sensitive", "attribute"}},
      {"dictsort", DictSort, {"case_sensitive", "by", "reverse"}},
      {"min", Min, {"case_sensitive", "attribute"}},
      {"max", Max, {"case_sensitive", "attribute"}},
      {"unique", Unique, {"case_sensitive", "attribute"}},
      {"sum", Sum, {"attribute", "start"}},
  };
  return *kFilters;
}

}  // namespace baton::jinja
