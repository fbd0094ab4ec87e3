// Drives a scheduler step by step without a model: the test says which tokens are drawn.
#pragma once

#include <gtest/gtest.h>

#include <algorithm>
#include <memory>
#include <vector>

#include "engine/scheduler/scheduler.h"

namespace baton {

inline constexpr TokenId kDriverEos = 1;

inline SchedulerOptions DriverOptions() {
  SchedulerOptions options;
  options.block_size = 4;
  options.num_blocks = 16;
  options.max_model_len = 100;
  options.max_batch_sequences = 8;
  options.max_batch_tokens = 32;
  options.prefill_chunk_tokens = 16;
  options.max_waiting = 4;
  options.eos_tokens = {kDriverEos};
  return options;
}

// Prompt tokens first, first + 1, ...; greedy, long enough not to end by itself.
inline GenerationSpec Prompt(int32_t length, TokenId first = 1000) {
  GenerationSpec spec;
  for (int32_t i = 0; i < length; ++i) spec.tokens.push_back(first + i);
  spec.prompt_length = length;
  spec.stopping.max_tokens = 1000;
  return spec;
}

class Driver {
 public:
  explicit Driver(const SchedulerOptions& options = DriverOptions())
      : scheduler(Scheduler::Create(options)) {}

  Scheduler* operator->() { return scheduler.get(); }

  SequenceId Add(GenerationSpec spec, SequenceMode mode = SequenceMode::kGenerate,
                 const SequenceObjective& objective = {}) {
    const auto id = scheduler->Add(std::move(spec), mode, objective);
    EXPECT_TRUE(id.ok()) << id.status().ToString();
    scheduler->CheckInvariants();
    return id.ok() ? *id : SequenceId(0);
  }
  SequenceId Add(GenerationSpec spec, const SequenceObjective& objective) {
    return Add(std::move(spec), SequenceMode::kGenerate, objective);
  }
  // A sequence that decodes from the next step on.
  SequenceId AddDecoding(GenerationSpec spec, const SequenceObjective& objective = {}) {
    const Reservation reservation = Reserve(std::move(spec), objective);
    Seal(reservation.sequence, {500});
    return reservation.sequence;
  }
  Reservation Reserve(GenerationSpec spec, const SequenceObjective& objective = {}) {
    const auto reservation = scheduler->Reserve(std::move(spec), objective);
    EXPECT_TRUE(reservation.ok()) << reservation.status().ToString();
    scheduler->CheckInvariants();
    return reservation.ok() ? *reservation : Reservation();
  }
  void Seal(SequenceId id, std::vector<TokenId> first_tokens) {
    const absl::Status sealed = scheduler->Seal(id, first_tokens);
    EXPECT_TRUE(sealed.ok()) << sealed.ToString();
    scheduler->CheckInvariants();
  }

  const StepPlan& Plan() {
    plan = &scheduler->Plan();
    scheduler->CheckInvariants();
    return *plan;
  }
  const StepPlan& PlanAhead() {
    const StepPlan& ahead = scheduler->PlanAhead();
    scheduler->CheckInvariants();
    return ahead;
  }
  // Every sample of every row draws `token`.
  std::vector<SequenceEvent> Commit(TokenId token = 500) {
    std::vector<std::vector<SampledToken>> sampled;
    for (const StepPlan::Row& row : plan->rows) {
      sampled.emplace_back(static_cast<size_t>(row.num_samples), SampledToken{.token = token});
    }
    auto events = scheduler->Commit(sampled);
    scheduler->CheckInvariants();
    return events;
  }
  std::vector<SequenceEvent> Step(TokenId token = 500) {
    if (Plan().empty()) return scheduler->TakeEvents();
    return Commit(token);
  }

  std::unique_ptr<Scheduler> scheduler;
  const StepPlan* plan = nullptr;
};

template <typename What>
int Count(const std::vector<SequenceEvent>& events) {
  return static_cast<int>(std::ranges::count_if(
      events, [](const SequenceEvent& e) { return std::holds_alternative<What>(e.what); }));
}

// The first event of its kind. REQUIRES: there is one.
template <typename What>
const What& First(const std::vector<SequenceEvent>& events) {
  return std::get<What>(std::ranges::find_if(events, [](const SequenceEvent& e) {
                          return std::holds_alternative<What>(e.what);
                        })->what);
}

}  // namespace baton
