// Requests for simulated runs.
#pragma once

#include <vector>

#include "sim/random.h"
#include "sim/simulator.h"

namespace baton::sim {

// Under a sanitizer the runs are for its eyes only, and short.
#if defined(__SANITIZE_ADDRESS__) || defined(__SANITIZE_THREAD__)
inline constexpr bool kSanitized = true;
#else
inline constexpr bool kSanitized = false;
#endif

// Poisson arrivals at `rate_per_s`, all like `request`.
inline std::vector<SimRequest> Poisson(uint64_t seed, double rate_per_s, size_t count,
                                       SimRequest request) {
  Random random(seed);
  std::vector<SimRequest> requests;
  for (size_t i = 0; i < count; ++i) {
    request.arrival_ms += random.Exponential(1000 / rate_per_s);
    requests.push_back(request);
  }
  return requests;
}

}  // namespace baton::sim
