// What an engine answers, driven step by step.
#pragma once

#include <cstdint>
#include <map>
#include <random>
#include <variant>
#include <vector>

#include "common/check.h"
#include "engine/runtime/engine.h"

namespace baton {

// What came of one sequence.
struct Answer {
  std::vector<std::vector<TokenId>> samples;
  std::vector<float> logprobs;
  std::vector<float> prompt_logprobs;

  bool operator==(const Answer&) const = default;
};

// A prompt of random tokens below 152, which tiny models have at least.
inline GenerationSpec RandomSpec(int32_t length, int32_t max_tokens, uint64_t seed) {
  std::mt19937_64 random(97 + seed);
  GenerationSpec spec;
  for (int32_t i = 0; i < length; ++i) {
    spec.tokens.push_back(static_cast<TokenId>(random() % 152));
  }
  spec.prompt_length = length;
  spec.sampling = {.temperature = 0.9f, .seed = seed, .num_logprobs = 2};
  spec.stopping.max_tokens = max_tokens;
  spec.stopping.ignore_eos = true;
  return spec;
}

// Until all are answered. `ahead`, if given: counts the steps that started before the one in front
// of them was over.
inline std::vector<Answer> RunAll(Engine& engine, const std::vector<GenerationSpec>& specs,
                                  int* ahead = nullptr) {
  std::vector<Answer> answers(specs.size());
  std::map<SequenceId, size_t> index;
  for (size_t i = 0; i < specs.size(); ++i) {
    const auto id = engine.scheduler().Add(specs[i], SequenceMode::kGenerate);
    BATON_CHECK(id.ok()) << id.status();
    answers[i].samples.resize(static_cast<size_t>(specs[i].num_samples));
    index[*id] = i;
  }
  while (engine.scheduler().HasWork()) {
    const auto result = engine.Step([](int32_t, const StepPlan&) {}, nullptr, ahead != nullptr);
    BATON_CHECK(result.ok()) << result.status();
    if (ahead != nullptr) *ahead += engine.scheduler().InStep();
    for (const SequenceEvent& event : result->events) {
      const auto* token = std::get_if<SequenceEvent::Token>(&event.what);
      if (token == nullptr) continue;
      Answer& answer = answers[index.at(event.sequence)];
      answer.samples[static_cast<size_t>(token->output.sample)].push_back(token->output.token);
      answer.logprobs.push_back(token->output.logprob);
    }
    for (const StepResult::PromptLogprobs& scored : result->prompt_logprobs) {
      for (const TokenOutput& output : scored.tokens) {
        answers[index.at(scored.sequence)].prompt_logprobs.push_back(output.logprob);
      }
    }
  }
  return answers;
}

}  // namespace baton
