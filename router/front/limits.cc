#include "router/front/limits.h"

#include <string>

#include "absl/strings/str_cat.h"
#include "common/strings.h"

namespace baton {

std::optional<FieldError> CheckRange(std::string_view param, double value,
                                     const NumberRange& range) {
  const bool above_min = range.min_open ? value > range.min : value >= range.min;
  if (above_min && value <= range.max) return std::nullopt;
  return FieldError{std::string(param), absl::StrCat(View(param), " is ", value, "; it must be ",
                                                     range.min_open ? "greater than " : "at least ",
                                                     range.min, " and at most ", range.max)};
}

std::optional<FieldError> CheckRange(std::string_view param, int64_t value, const IntRange& range) {
  if (value >= range.min && value <= range.max) return std::nullopt;
  return FieldError{std::string(param),
                    absl::StrCat(View(param), " is ", value, "; it must be at least ", range.min,
                                 " and at most ", range.max)};
}

}  // namespace baton
