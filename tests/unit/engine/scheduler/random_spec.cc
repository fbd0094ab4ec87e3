#include "tests/unit/engine/scheduler/random_spec.h"

#include <algorithm>

#include "tests/unit/engine/scheduler/history_model.h"

namespace baton {

SpecSource::SpecSource(uint64_t seed) : random_(seed) {
  constexpr int32_t kBlockSizes[] = {1, 4, 8, 16};
  block_size_ = kBlockSizes[Uniform(0, 3)];
  max_model_len_ = Uniform(40, 160);
  for (int i = 0; i < 3; ++i) {
    std::vector<TokenId>& document = documents_.emplace_back();
    for (int32_t t = 0; t < max_model_len_; ++t) document.push_back(Uniform(0, kHistoryVocab - 1));
  }
}

SchedulerOptions SpecSource::Options() {
  SchedulerOptions options;
  options.block_size = block_size_;
  // From one sequence's worth, minus a little, to a few of them.
  const int32_t blocks_of_one = (max_model_len_ + block_size_ - 1) / block_size_;
  options.num_blocks = std::max(2, Uniform(blocks_of_one * 3 / 4, blocks_of_one * 4));
  options.max_model_len = max_model_len_;
  options.vocab_size = kHistoryVocab;
  options.max_batch_sequences = Uniform(1, 12);
  options.max_batch_tokens = Uniform(2, 128);
  constexpr int32_t kChunks[] = {3, 16, 32, 64, 512};
  options.prefill_chunk_tokens = kChunks[Uniform(0, 4)];
  options.max_waiting = Uniform(4, 12);
  options.prefix_caching = !OneIn(8);
  options.eos_tokens = {kHistoryEos};
  constexpr Chunking kChunkings[] = {Chunking::kAuto, Chunking::kAuto, Chunking::kFixed,
                                     Chunking::kOff};
  options.chunking = kChunkings[Uniform(0, 3)];
  return options;
}

GenerationSpec SpecSource::Spec(const SchedulerOptions& options) {
  GenerationSpec spec;
  spec.tokens = Prompt();
  spec.prompt_length = static_cast<int32_t>(spec.tokens.size());
  spec.num_samples = OneIn(3) ? Uniform(2, 5) : 1;
  spec.first_sample = OneIn(6) ? Uniform(1, 3) : 0;
  spec.sampling = Sampling();
  spec.stopping = Stopping();
  spec.cache_salt = OneIn(8) ? 1 : 0;
  if (spec.num_samples == 1 && OneIn(5)) {  // resume after some of what it gives alone
    const ExpectedSample alone = RunAlone(spec, spec.first_sample, options);
    const auto emitted = Uniform(0, static_cast<int32_t>(alone.tokens.size()) - 1);
    for (int32_t i = 0; i < emitted; ++i) {
      spec.tokens.push_back(alone.tokens[static_cast<size_t>(i)].token);
    }
  }
  return spec;
}

SequenceObjective SpecSource::Objective() {
  SequenceObjective objective;
  objective.arrived = absl::UnixEpoch() + absl::Milliseconds(++arrivals_);
  if (OneIn(2)) objective.first_token_due = objective.arrived + absl::Milliseconds(Uniform(-9, 99));
  if (OneIn(2)) objective.tpot_ms = Uniform(5, 40);
  return objective;
}

std::optional<StepModel> SpecSource::Model() {
  if (OneIn(3)) return std::nullopt;
  return StepModel{.prefill_base_ms = 5,
                   .prefill_token_ms = 0.1 * Uniform(1, 20),
                   .prefill_pair_ms = 0.001,
                   .decode_base_ms = 5,
                   .decode_row_ms = 0.5 * Uniform(1, 10),
                   .decode_context_ms = 0.001,
                   .profiled_prefill_tokens = 64};
}

int32_t SpecSource::Uniform(int32_t low, int32_t high) {
  return low + static_cast<int32_t>(random_() % static_cast<uint64_t>(high - low + 1));
}

SamplingParams SpecSource::Sampling() {
  SamplingParams sampling;
  sampling.seed = random_();
  sampling.temperature = OneIn(3) ? 0.0f : 0.5f + 0.1f * static_cast<float>(Uniform(0, 10));
  if (OneIn(4)) sampling.top_k = Uniform(1, 20);
  if (OneIn(4)) sampling.top_p = 0.1f * static_cast<float>(Uniform(1, 9));
  if (OneIn(6)) sampling.repetition_penalty = 1.3f;
  if (OneIn(6)) sampling.frequency_penalty = 0.5f;
  if (OneIn(4)) sampling.num_logprobs = Uniform(0, 3);
  if (OneIn(6)) sampling.num_prompt_logprobs = Uniform(0, 2);
  return sampling;
}

StoppingParams SpecSource::Stopping() {
  StoppingParams stopping;
  stopping.max_tokens = OneIn(4) ? Uniform(1, 3) : Uniform(1, max_model_len_);
  if (OneIn(4)) stopping.min_tokens = Uniform(1, 10);
  stopping.ignore_eos = OneIn(2);
  if (OneIn(4)) stopping.stop_token_ids = {Uniform(0, kHistoryVocab - 1)};
  return stopping;
}

std::vector<TokenId> SpecSource::Prompt() {
  const std::vector<TokenId>& document = documents_[static_cast<size_t>(Uniform(0, 2))];
  const int32_t length = Uniform(1, max_model_len_ - 2);
  const int32_t shared = OneIn(3) ? length : Uniform(0, length);
  std::vector<TokenId> prompt(document.begin(), document.begin() + shared);
  while (static_cast<int32_t>(prompt.size()) < length) {
    prompt.push_back(Uniform(0, kHistoryVocab - 1));
  }
  return prompt;
}

}  // namespace baton
