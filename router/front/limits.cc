#include "router/front/limits.h"

#include <algorithm>
#include <cstring>
#include <string>

#include "absl/strings/str_cat.h"
#include "absl/strings/str_join.h"
#include "common/crypto.h"
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

uint64_t TenantOf(const CallerNames& caller) {
  // Each kind of name has a seed of its own: a user cannot pass for a key.
  if (!caller.tenant.empty()) return HashString(caller.tenant, 4);
  if (!caller.authorization.empty()) return HashString(caller.authorization, 1);
  if (!caller.user.empty()) return HashString(caller.user, 2);
  if (!caller.cache_salt.empty()) return HashString(caller.cache_salt, 3);
  return 0;
}

uint64_t CacheSaltOf(const CallerNames& caller) {
  if (caller.tenant.empty() && caller.cache_salt.empty()) return 0;
  uint64_t salt = 0;
  if (caller.tenant.empty()) {
    salt = HashString(caller.cache_salt);
  } else {
    // A tenant may choose its cache_salt, and must not hit another's entries by it.
    const Sha256Digest digest = Sha256(
        absl::StrCat(caller.tenant.size(), ":", View(caller.tenant), View(caller.cache_salt)));
    std::memcpy(&salt, digest.data(), sizeof salt);
  }
  return std::max<uint64_t>(1, salt);  // a salt never hashes to none
}

}  // namespace baton
