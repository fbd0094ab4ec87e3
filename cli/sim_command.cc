#include "cli/sim_command.h"

#include <unistd.h>

#include <algorithm>
#include <cstdio>
#include <string>
#include <thread>

#include "absl/strings/numbers.h"
#include "absl/strings/str_cat.h"
#include "absl/strings/str_format.h"
#include "absl/time/clock.h"
#include "cli/signals.h"
#include "common/check.h"
#include "common/strings.h"
#include "sim/faults/explore.h"
#include "sim/faults/fault_sim.h"
#include "sim/faults/shrink.h"

namespace baton {
namespace {

void PrintHistory(const std::vector<sim::History::Line>& lines) {
  absl::PrintF("%12s  %-10s  %s\n", "ms", "who", "what");
  for (const sim::History::Line& line : lines) {
    absl::PrintF("%12.3f  %-10s  %s\n", absl::ToDoubleMilliseconds(line.at), line.who, line.what);
  }
}

class SimExploreCommand final : public Command {
 public:
  std::string name() const override { return "explore"; }
  std::string summary() const override {
    return "Run random fault schedules against the cores of a whole cluster";
  }
  std::string footer() const override {
    return "Each seed is one small cluster, its requests and its faults; after every event the\n"
           "invariants of docs/failure_model.md are checked. Then broken variants of the code\n"
           "run, from seed 1 on; each must be caught. The last line is\n"
           "`N seeds, F failures, mutants K/M caught`; the exit status is 1 unless F is 0 and all\n"
           "were caught.\n"
           "Examples:\n"
           "  baton sim explore --seeds 10000\n"
           "  baton sim explore --seeds 1000000 --first-seed 1 --mutant-seeds 0\n";
  }
  void Describe(ConfigSchema& schema) override {
    schema.AddInt("seeds", &seeds_, 1, 1 << 30, "Schedules");
    schema.AddInt("first_seed", &first_seed_, 0, 1 << 30, "The first one's seed");
    schema.AddInt("jobs", &jobs_, 0, 1024, "Threads; 0: one for each CPU");
    schema.AddInt("mutant_seeds", &mutant_seeds_, 0, 1 << 30,
                  "Seeds until each broken variant must have been caught; 0: run none");
    schema.AddBool("quiet", &quiet_, "Print what failed and the last line only");
  }

  absl::StatusOr<int> Run() override {
    SignalWaiter signals;
    const absl::Time start = absl::Now();
    sim::ExploreOptions options;
    options.first_seed = static_cast<uint64_t>(first_seed_);
    options.seeds = seeds_;
    options.mutant_seeds = mutant_seeds_;
    options.jobs =
        jobs_ > 0 ? jobs_ : std::max(1, static_cast<int32_t>(std::thread::hardware_concurrency()));
    const bool terminal = isatty(STDERR_FILENO) == 1 && !quiet_;
    options.progress = [&](int64_t runs) {
      if (terminal) absl::FPrintF(stderr, "\r%d of %d seeds", runs, seeds_);
      return signals.Wait(absl::ZeroDuration()) == 0;
    };
    options.progress_every = std::max(1, std::min(1000, seeds_ / 100));
    const sim::ExploreResult result = sim::Explore(options);
    if (terminal) std::fputs("\r\x1b[K", stderr);
    if (!quiet_) PrintTotals(result, absl::Now() - start, options.jobs);
    PrintFailures(result);
    if (result.interrupted) absl::PrintF("interrupted\n");
    absl::PrintF("%d seeds, %d failures, mutants %d/%d caught\n", result.runs, result.failures,
                 result.caught(), result.mutants.size());
    const bool all_caught = result.caught() == static_cast<int64_t>(result.mutants.size());
    return result.failures == 0 && all_caught && !result.interrupted ? 0 : 1;
  }

 private:
  static void PrintTotals(const sim::ExploreResult& result, absl::Duration took, int32_t jobs) {
    absl::PrintF(
        "%d events, %d requests complete, %d failed, %d blocks of KV landed, "
        "%d slow workers and %d pairs ejected\n",
        result.events, result.completed, result.failed, result.payload_blocks,
        result.ejections.workers, result.ejections.pairs);
    absl::PrintF("%.1f s on %d threads, mutants included\n", absl::ToDoubleSeconds(took), jobs);
    for (const sim::MutantOutcome& mutant : result.mutants) {
      if (!mutant.caught.has_value()) continue;
      absl::PrintF("  %-24s %-44s seed %d: %s\n", View(mutant.name), View(mutant.pattern),
                   mutant.caught->seed, mutant.caught->what);
    }
  }

  static void PrintFailures(const sim::ExploreResult& result) {
    for (const sim::MutantOutcome& mutant : result.mutants) {
      if (mutant.caught.has_value()) continue;
      absl::PrintF("  %-24s %-44s NOT CAUGHT\n", View(mutant.name), View(mutant.pattern));
    }
    if (result.violations.empty()) return;
    absl::PrintF("\n");
    for (const sim::FoundViolation& each : result.violations) {
      absl::PrintF("seed %d: %s\n", each.seed, each.what);
    }
    const uint64_t seed = result.violations.front().seed;
    absl::PrintF("baton sim replay %d shows what happened; made shorter:\n", seed);
    std::fflush(stdout);
    absl::PrintF("%s\n", sim::Shrink(sim::MakeSchedule(seed), {}).ToString());
  }

  int32_t seeds_ = 10'000;
  int32_t first_seed_ = 1;
  int32_t jobs_ = 0;
  int32_t mutant_seeds_ = 20000;
  bool quiet_ = false;
};

class SimReplayCommand final : public Command {
 public:
  std::string name() const override { return "replay"; }
  std::string summary() const override { return "Show what happened in one fault schedule"; }
  std::string footer() const override {
    return "Examples:\n"
           "  baton sim replay 4711\n"
           "  baton sim replay 4711 --shrink=false\n"
           "  baton sim replay 12 --mutant early_unpin\n";
  }
  void Describe(ConfigSchema& schema) override {
    schema.AddString("mutant", &mutant_, "Run this broken variant, as `explore` names them");
    schema.AddBool("shrink", &shrink_, "Make a failing schedule short first");
  }
  std::vector<Positional> Positionals() override {
    return {{"seed", "The schedule's seed", &seed_}};
  }
  absl::Status Validate() const override {
    RETURN_IF_ERROR(Seed().status());
    return MutationsOf().status();
  }

  absl::StatusOr<int> Run() override {
    ASSIGN_OR_RETURN(const uint64_t seed, Seed());
    ASSIGN_OR_RETURN(const sim::Mutations mutations, MutationsOf());
    sim::Schedule schedule = sim::MakeSchedule(seed);
    sim::FaultResult result = sim::FaultSim(schedule, mutations, /*record=*/true).Run();
    const bool fails = !result.violation.empty();
    if (fails && shrink_) {
      schedule = sim::Shrink(std::move(schedule), mutations);
      result = sim::FaultSim(schedule, mutations, /*record=*/true).Run();
    }
    absl::PrintF("%s\n", schedule.ToString());
    PrintHistory(result.history);
    absl::PrintF("\n%d requests complete, %d failed; %s\n", result.completed, result.failed,
                 fails ? result.violation : "every invariant held");
    return fails ? 1 : 0;
  }

 private:
  absl::StatusOr<uint64_t> Seed() const {
    uint64_t seed = 0;
    if (absl::SimpleAtoi(seed_, &seed)) return seed;
    return absl::InvalidArgumentError(absl::StrCat("seed: \"", seed_, "\" is not a number"));
  }

  absl::StatusOr<sim::Mutations> MutationsOf() const {
    if (mutant_.empty()) return sim::Mutations{};
    std::string names;
    for (const sim::Mutant& mutant : sim::Mutants()) {
      if (mutant.name == mutant_) return mutant.mutations;
      absl::StrAppend(&names, names.empty() ? "" : ", ", View(mutant.name));
    }
    return absl::InvalidArgumentError(
        absl::StrCat("mutant: there is no \"", mutant_, "\"; there are ", names));
  }

  std::string seed_;
  std::string mutant_;
  bool shrink_ = true;
};

}  // namespace

std::unique_ptr<Command> MakeSimExploreCommand() { return std::make_unique<SimExploreCommand>(); }
std::unique_ptr<Command> MakeSimReplayCommand() { return std::make_unique<SimReplayCommand>(); }

}  // namespace baton
