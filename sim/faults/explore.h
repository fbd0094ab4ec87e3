// Runs many seeds' schedules, and shows that broken code would be seen.
#pragma once

#include <cstdint>
#include <functional>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

#include "sim/faults/mutations.h"
#include "sim/faults/worker_node.h"

namespace baton::sim {

struct ExploreOptions {
  uint64_t first_seed = 1;
  int64_t seeds = 1000;
  int64_t mutant_seeds =
      5000;          // that each mutant gets until it must have been caught; 0: no mutants
  int32_t jobs = 1;  // threads
  // About every `progress_every` runs, on any thread, one at a time; false ends the exploration.
  std::function<bool(int64_t runs)> progress;
  int64_t progress_every = 1000;
};

struct FoundViolation {
  uint64_t seed = 0;
  std::string what;
};

struct MutantOutcome {
  std::string_view name, pattern;
  std::optional<FoundViolation> caught;
};

struct ExploreResult {
  int64_t runs = 0;
  int64_t failures = 0;
  std::vector<FoundViolation> violations;  // of the lowest seeds, in their order; some at most
  int64_t events = 0;
  int64_t completed = 0;  // requests
  int64_t failed = 0;
  int64_t payload_blocks = 0;
  Ejections ejections;
  std::vector<MutantOutcome> mutants;
  bool interrupted = false;

  int64_t caught() const;
};

ExploreResult Explore(const ExploreOptions& options);

}  // namespace baton::sim
