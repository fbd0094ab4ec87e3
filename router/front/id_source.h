// Random numbers for request ids and for seeds that the client did not give.
#pragma once

#include <atomic>
#include <cstdint>
#include <string>

#include "absl/strings/str_cat.h"
#include "common/hash.h"

namespace baton {

// A counter run through a mixer: the same start gives the same numbers. Thread-safe. Main seeds it
// from the system; tests from a constant. Not for secrets.
class IdSource {
 public:
  explicit IdSource(uint64_t seed) : seed_(seed) {}

  uint64_t Next() { return HashCombine(seed_, counter_.fetch_add(1, std::memory_order_relaxed)); }
  std::string NextHex() {
    return absl::StrCat(absl::Hex(Next(), absl::kZeroPad16), absl::Hex(Next(), absl::kZeroPad16));
  }

 private:
  const uint64_t seed_;
  std::atomic<uint64_t> counter_{0};
};

}  // namespace baton
