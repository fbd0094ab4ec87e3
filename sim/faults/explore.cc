#include "sim/faults/explore.h"

#include <algorithm>
#include <atomic>
#include <cstdio>
#include <cstdlib>
#include <exception>
#include <thread>

#include "absl/synchronization/mutex.h"
#include "sim/faults/fault_sim.h"

namespace baton::sim {
namespace {

constexpr size_t kMostViolations = 20;

thread_local uint64_t running_seed = 0;
std::terminate_handler before = nullptr;

// A check that fails inside a destructor ends the process: not without the seed.
[[noreturn]] void NameTheSeed() {
  std::fprintf(stderr, "the process ends in seed %llu\n",
               static_cast<unsigned long long>(running_seed));
  if (before != nullptr) before();
  std::abort();
}

FaultResult RunSeed(uint64_t seed, const Mutations& mutations) {
  running_seed = seed;
  const Schedule schedule = MakeSchedule(seed);
  return FaultSim(schedule, mutations, /*record=*/false).Run();
}

// `work(i)` for i in [0, count), on `jobs` threads, until one returns false.
void ForEach(int64_t count, int32_t jobs, const std::function<bool(int64_t)>& work) {
  std::atomic<int64_t> next{0};
  std::atomic<bool> stop{false};
  const auto run = [&] {
    for (int64_t i = next++; i < count && !stop; i = next++) {
      if (!work(i)) stop = true;
    }
  };
  std::vector<std::thread> threads;
  for (int32_t i = 1; i < jobs; ++i) threads.emplace_back(run);
  run();
  for (std::thread& thread : threads) thread.join();
}

void RunMutants(const ExploreOptions& options, ExploreResult* result) {
  absl::Mutex mutex;
  const std::vector<Mutant>& mutants = Mutants();
  result->mutants.resize(mutants.size());
  ForEach(static_cast<int64_t>(mutants.size()), options.jobs, [&](int64_t i) {
    const Mutant& mutant = mutants[static_cast<size_t>(i)];
    MutantOutcome& outcome = result->mutants[static_cast<size_t>(i)];
    outcome.name = mutant.name;
    outcome.pattern = mutant.pattern;
    for (uint64_t seed = 1; seed <= static_cast<uint64_t>(options.mutant_seeds); ++seed) {
      if (seed % 200 == 0 && options.progress) {
        absl::MutexLock lock(&mutex);
        if (!options.progress(result->runs)) result->interrupted = true;
        if (result->interrupted) return false;
      }
      FaultResult run = RunSeed(seed, mutant.mutations);
      if (run.violation.empty()) continue;
      outcome.caught = FoundViolation{seed, std::move(run.violation)};
      break;
    }
    return true;
  });
}

}  // namespace

int64_t ExploreResult::caught() const {
  return std::count_if(mutants.begin(), mutants.end(),
                       [](const MutantOutcome& mutant) { return mutant.caught.has_value(); });
}

ExploreResult Explore(const ExploreOptions& options) {
  ExploreResult result;
  before = std::set_terminate(&NameTheSeed);
  absl::Mutex mutex;
  const Mutations none;
  ForEach(options.seeds, options.jobs, [&](int64_t i) {
    const uint64_t seed = options.first_seed + static_cast<uint64_t>(i);
    const FaultResult run = RunSeed(seed, none);
    absl::MutexLock lock(&mutex);
    result.events += run.events;
    result.completed += run.completed;
    result.failed += run.failed;
    result.payload_blocks += run.payload_blocks;
    result.ejections.workers += run.ejections.workers;
    result.ejections.pairs += run.ejections.pairs;
    if (!run.violation.empty()) {
      ++result.failures;
      std::vector<FoundViolation>& found = result.violations;
      const auto place = std::find_if(found.begin(), found.end(),
                                      [&](const FoundViolation& each) { return each.seed > seed; });
      found.insert(place, FoundViolation{seed, run.violation});
      if (found.size() > kMostViolations) found.pop_back();
    }
    ++result.runs;
    if (options.progress && result.runs % options.progress_every == 0) {
      if (!options.progress(result.runs)) result.interrupted = true;
    }
    return !result.interrupted;
  });
  if (options.mutant_seeds > 0 && !result.interrupted) RunMutants(options, &result);
  std::set_terminate(before);
  return result;
}

}  // namespace baton::sim
