// strftime for strftime_now(): a pure function of a given time, in UTC and English.
#pragma once

#include <cstdint>
#include <string>
#include <string_view>

#include "absl/status/statusor.h"

namespace baton::jinja {

// INVALID_ARGUMENT for a directive outside %Y %m %d %H %M %S %y %b %B %a %A %j %e %p %I %F %T %D
// %R %z %Z %% and their "%-" forms without leading zeros.
absl::StatusOr<std::string> FormatDate(std::string_view format, int64_t unix_s);

}  // namespace baton::jinja
