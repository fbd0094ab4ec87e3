// The arguments of one call, and how they meet a list of parameters.
#pragma once

#include <cstdint>
#include <span>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

#include "absl/status/statusor.h"
#include "engine/tokenizer/jinja/value.h"

namespace baton::jinja {

struct Arguments {
  std::vector<Value> positional;
  std::vector<std::pair<std::string_view, Value>> named;
};

// Arguments by parameter. Views into the Arguments, which must outlive it.
class BoundArguments {
 public:
  // INVALID_ARGUMENT when there are too many, an unknown name, or one given twice.
  static absl::StatusOr<BoundArguments> Bind(const Arguments& arguments,
                                             std::span<const std::string_view> parameters);

  const Value* Find(size_t index) const { return values_[index]; }  // null: not given
  absl::StatusOr<Value> Get(size_t index) const;
  // A string; `if_absent` also stands for None.
  absl::StatusOr<std::string> Text(size_t index, std::string_view if_absent) const;
  absl::StatusOr<int64_t> Integer(size_t index, int64_t if_absent) const;
  bool Flag(size_t index, bool if_absent) const;

 private:
  std::span<const std::string_view> parameters_;
  std::vector<const Value*> values_;  // [parameters]
};

}  // namespace baton::jinja
