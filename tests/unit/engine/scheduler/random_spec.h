// Random requests and scheduler options for workload tests, from a seed.
#pragma once

#include <optional>
#include <random>
#include <vector>

#include "common/request.h"
#include "engine/scheduler/scheduler.h"

namespace baton {

class SpecSource {
 public:
  explicit SpecSource(uint64_t seed);

  // A tiny installation: pools and budgets so small that everything that can run out does.
  SchedulerOptions Options();
  // Block size and context length are shared by all options of one source.
  int32_t block_size() const { return block_size_; }
  int32_t max_model_len() const { return max_model_len_; }

  // Prompts share prefixes, some resume, some have several samples.
  GenerationSpec Spec(const SchedulerOptions& options);

  // None, loose ones, and some that cannot be met.
  SequenceObjective Objective();
  // None, or one under which objectives of Objective matter.
  std::optional<StepModel> Model();

  int32_t Uniform(int32_t low, int32_t high);  // both included
  bool OneIn(int32_t n) { return Uniform(1, n) == 1; }

 private:
  SamplingParams Sampling();
  StoppingParams Stopping();
  std::vector<TokenId> Prompt();

  std::mt19937_64 random_;
  int32_t block_size_;
  int32_t max_model_len_;
  int64_t arrivals_ = 0;
  std::vector<std::vector<TokenId>> documents_;
};

}  // namespace baton
