// What tells one life of a router from an earlier one.
#pragma once

#include <cstdint>

#include "absl/time/time.h"

namespace baton::router {

// Grows from life to life, since workers refuse an epoch below the last one they met: microseconds
// since 1970, and 12 random bits below. A router that comes back on a clock that was set back is
// refused until that clock has caught up.
inline uint64_t EpochOf(absl::Time start, uint32_t random) {
  return static_cast<uint64_t>(absl::ToUnixMicros(start)) << 12 | (random & 0xfff);
}

}  // namespace baton::router
