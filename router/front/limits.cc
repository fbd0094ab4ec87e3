#include "router/front/limits.h"

#include <algorithm>
#include <string>

#include "absl/strings/str_cat.h"
#include "absl/strings/str_join.h"
#include "common/hash.h"
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

std::optional<FieldError> CheckSloClass(std::string_view param, std::string_view name,
                                        const RequestLimits& limits) {
  const std::vector<std::string>& known = limits.slo_classes;
  if (name.empty() || std::find(known.begin(), known.end(), name) != known.end()) {
    return std::nullopt;
  }
  return FieldError{std::string(param),
                    absl::StrCat(View(param), " is '", View(name), "'; the SLO classes are ",
                                 absl::StrJoin(known, ", "))};
}

uint64_t TenantOf(std::string_view api_key, std::string_view user, std::string_view cache_salt) {
  // Each kind of name has a seed of its own: a user cannot pass for a key.
  if (!api_key.empty()) return HashString(api_key, 1);
  if (!user.empty()) return HashString(user, 2);
  if (!cache_salt.empty()) return HashString(cache_salt, 3);
  return 0;
}

}  // namespace baton
