// Requests and a worker for simulated runs.
#pragma once

#include <algorithm>
#include <vector>

#include "sim/random.h"
#include "sim/simulator.h"

namespace baton::sim {

// Under a sanitizer the runs are for its eyes only, and short.
#if defined(__has_feature)  // clang
#if __has_feature(address_sanitizer) || __has_feature(thread_sanitizer)
#define BATON_TESTS_ARE_SANITIZED
#endif
#elif defined(__SANITIZE_ADDRESS__) || defined(__SANITIZE_THREAD__)
#define BATON_TESTS_ARE_SANITIZED
#endif

#ifdef BATON_TESTS_ARE_SANITIZED
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

// Some CPU core: 0.8 ms a prompt token, 8 ms a token of one stream.
inline constexpr StepModel kCpuCore{.prefill_base_ms = 7,
                                    .prefill_token_ms = 0.8,
                                    .decode_base_ms = 7.2,
                                    .decode_row_ms = 0.8,
                                    .profiled_prefill_tokens = 4096,
                                    .profiled_decode_rows = 64};

// Lengths of code completion: a mean prompt of 500 tokens, short outputs.
inline std::vector<SimRequest> CodeCompletions(uint64_t seed, double rate_per_s, size_t count) {
  std::vector<SimRequest> requests =
      Poisson(seed, rate_per_s, count, {.slo = {.ttft_ms = 4900, .tpot_ms = 12.5}});
  Random random(seed + 1);
  for (SimRequest& request : requests) {
    request.prompt = std::clamp(static_cast<int32_t>(random.Exponential(500)), 16, 2000);
    request.output = random.Exponential(1) < 0.4
                         ? 2
                         : std::clamp(static_cast<int32_t>(random.Exponential(9)), 2, 60);
  }
  return requests;
}

}  // namespace baton::sim
