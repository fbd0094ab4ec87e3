#include "engine/sampling/sampler.h"

#include <algorithm>
#include <cmath>
#include <limits>

#include "absl/strings/str_cat.h"
#include "common/check.h"
#include "engine/sampling/float_math.h"
#include "engine/sampling/random.h"

namespace baton {

namespace {

constexpr float kInfinity = std::numeric_limits<float>::infinity();
// How many of the most likely tokens are sorted to find top_p's set; then 16 times as many.
constexpr int32_t kFirstTop = 256;
constexpr int32_t kTopGrowth = 16;
constexpr size_t kSumChunk = 512;
// Below this a division by the temperature could overflow, and the draw is greedy anyway.
constexpr float kGreedyTemperature = 1e-5f;

bool MasksStopTokens(const SampleContext& context) {
  return context.index() < context.stopping.min_tokens;
}

bool HasPenalties(const SamplingParams& sampling) {
  return sampling.repetition_penalty != 1.0f || sampling.frequency_penalty != 0.0f ||
         sampling.presence_penalty != 0.0f;
}

absl::Status BrokenRow(std::span<const float> logits) {
  for (size_t i = 0; i < logits.size(); ++i) {
    if (!(logits[i] < kInfinity)) {
      return absl::InternalError(absl::StrCat("logit of token ", i, " is ", logits[i]));
    }
  }
  return absl::InternalError("the logits of all tokens are -inf");
}

}  // namespace

Sampler::Sampler(int32_t vocab_size)
    : vocab_size_(vocab_size),
      output_counts_(static_cast<size_t>(vocab_size)),
      seen_(static_cast<size_t>(vocab_size)) {}

absl::StatusOr<DrawnToken> Sampler::Draw(std::span<const float> logits,
                                         const SampleContext& context) {
  BATON_CHECK(static_cast<int32_t>(logits.size()) == vocab_size_) << logits.size();
  const RowScan scan = ScanRow(logits);
  if (!scan.valid) return BrokenRow(logits);
  std::span<const float> adjusted = Adjusted(logits, context);
  if (adjusted.data() != logits.data() && !ScanRow(adjusted).valid) adjusted = logits;

  DrawnToken drawn;
  drawn.token = context.sampling.temperature < kGreedyTemperature ? ArgMax(adjusted)
                                                                  : DrawFrom(adjusted, context);
  if (context.sampling.num_logprobs >= 0) {
    FillLogprobs(logits, scan.max, context.sampling.num_logprobs, &drawn);
  }
  return drawn;
}

absl::StatusOr<DrawnToken> Sampler::Score(std::span<const float> logits, TokenId token,
                                          int32_t num_logprobs) {
  BATON_CHECK(static_cast<int32_t>(logits.size()) == vocab_size_) << logits.size();
  BATON_CHECK(token >= 0 && token < vocab_size_) << token;
  const RowScan scan = ScanRow(logits);
  if (!scan.valid) return BrokenRow(logits);
  DrawnToken scored{.token = token};
  FillLogprobs(logits, scan.max, num_logprobs, &scored);
  return scored;
}

std::span<const float> Sampler::Adjusted(std::span<const float> logits,
                                         const SampleContext& context) {
  const SamplingParams& sampling = context.sampling;
  const bool masks = MasksStopTokens(context);
  if (sampling.logit_bias.empty() && !masks && !HasPenalties(sampling)) return logits;

  adjusted_.assign(logits.begin(), logits.end());
  const auto known = [&](TokenId token) { return token >= 0 && token < vocab_size_; };
  for (const auto& [token, bias] : sampling.logit_bias) {
    if (known(token)) adjusted_[static_cast<size_t>(token)] += bias;
  }
  if (masks) {
    for (const TokenId token : context.eos_tokens) {
      if (known(token)) adjusted_[static_cast<size_t>(token)] = -kInfinity;
    }
    for (const TokenId token : context.stopping.stop_token_ids) {
      if (known(token)) adjusted_[static_cast<size_t>(token)] = -kInfinity;
    }
  }
  if (HasPenalties(sampling)) ApplyPenalties(context);
  return adjusted_;
}

void Sampler::ApplyPenalties(const SampleContext& context) {
  const SamplingParams& sampling = context.sampling;
  const auto prompt_length = static_cast<size_t>(context.prompt_length);
  for (const TokenId token : context.tokens.subspan(prompt_length)) {
    ++output_counts_[static_cast<size_t>(token)];
  }
  // The first time that a token is met, all its penalties are applied.
  for (const TokenId token : context.tokens) {
    const auto at = static_cast<size_t>(token);
    if (seen_[at]) continue;
    seen_[at] = 1;
    float& logit = adjusted_[at];
    logit = logit > 0 ? logit / sampling.repetition_penalty : logit * sampling.repetition_penalty;
    if (output_counts_[at] > 0) {
      logit -= sampling.frequency_penalty * static_cast<float>(output_counts_[at]);
      logit -= sampling.presence_penalty;
    }
  }
  for (const TokenId token : context.tokens) {
    seen_[static_cast<size_t>(token)] = 0;
    output_counts_[static_cast<size_t>(token)] = 0;
  }
}

TokenId Sampler::DrawFrom(std::span<const float> logits, const SampleContext& context) {
  const SamplingParams& sampling = context.sampling;
  const double uniform = UniformAt(sampling.seed, context.sample, context.index());
  weights_.resize(logits.size());
  ExpRow(logits, ScanRow(logits).max, 1.0f / sampling.temperature, weights_);
  if (sampling.top_k == 0 && sampling.top_p >= 1.0f) return DrawFromAll(sampling, uniform);
  return DrawFromTop(logits, sampling, uniform);
}

// Walks the tokens by id until `uniform` of the weight is behind, whole chunks first.
TokenId Sampler::DrawFromAll(const SamplingParams& sampling, double uniform) {
  if (sampling.min_p > 0) {
    for (float& weight : weights_) weight = weight >= sampling.min_p ? weight : 0.0f;
  }
  const std::span<const float> weights = weights_;
  const auto chunk_at = [&](size_t start) {
    return weights.subspan(start, std::min(kSumChunk, weights.size() - start));
  };
  double total = 0;
  for (size_t start = 0; start < weights.size(); start += kSumChunk) {
    total += SumRow(chunk_at(start));
  }
  const double target = uniform * total;
  double before = 0;
  TokenId last_possible = 0;
  for (size_t start = 0; start < weights.size(); start += kSumChunk) {
    const double sum = SumRow(chunk_at(start));
    if (before + sum <= target) {
      before += sum;
      continue;
    }
    double inside = before;
    for (size_t i = 0; i < chunk_at(start).size(); ++i) {
      const float weight = weights[start + i];
      if (weight == 0) continue;
      last_possible = static_cast<TokenId>(start + i);
      inside += double{weight};
      if (inside > target) return last_possible;
    }
    // The chunk's tokens added one by one fell short of their sum by a rounding.
    return last_possible;
  }
  return ArgMax(weights);
}

// The set that top_k and top_p leave, in order of likelihood.
TokenId Sampler::DrawFromTop(std::span<const float> logits, const SamplingParams& sampling,
                             double uniform) {
  const auto weight_of = [&](const Candidate& candidate) {
    const float weight = weights_[static_cast<size_t>(candidate.token)];
    return weight >= sampling.min_p ? double{weight} : 0.0;
  };
  double total = 0;
  int32_t count = sampling.top_k > 0 ? std::min(sampling.top_k, vocab_size_) : kFirstTop;
  if (sampling.top_k > 0) {
    SelectTop(logits, count, &top_);
    for (const Candidate& candidate : top_) total += weight_of(candidate);
  } else {
    if (sampling.min_p > 0) {
      for (float& weight : weights_) weight = weight >= sampling.min_p ? weight : 0.0f;
    }
    total = SumRow(weights_);
    SelectTop(logits, count, &top_);
  }

  const double wanted = total * double{sampling.top_p};
  double kept = 0;
  size_t size = 0;
  for (;;) {
    for (kept = 0, size = 0; size < top_.size() && (size == 0 || kept < wanted); ++size) {
      const double weight = weight_of(top_[size]);
      if (weight == 0) break;
      kept += weight;
    }
    const bool all_seen = sampling.top_k > 0 || size < top_.size() || count >= vocab_size_;
    if (all_seen || kept >= wanted) break;
    count = std::min(count * kTopGrowth, vocab_size_);
    SelectTop(logits, count, &top_);
  }

  const double target = uniform * kept;
  double behind = 0;
  for (size_t i = 0; i < size; ++i) {
    behind += weight_of(top_[i]);
    if (behind > target) return top_[i].token;
  }
  return top_[size - 1].token;
}

void Sampler::FillLogprobs(std::span<const float> logits, float max, int32_t num_logprobs,
                           DrawnToken* drawn) {
  weights_.resize(logits.size());
  ExpRow(logits, max, 1.0f, weights_);
  const double log_sum = double{max} + std::log(SumRow(weights_));
  const auto logprob = [&](float logit) { return static_cast<float>(double{logit} - log_sum); };
  drawn->logprob = logprob(logits[static_cast<size_t>(drawn->token)]);
  if (num_logprobs <= 0) return;
  SelectTop(logits, num_logprobs, &top_);
  drawn->top_logprobs.reserve(top_.size());
  for (const Candidate& candidate : top_) {
    drawn->top_logprobs.push_back({candidate.token, logprob(candidate.value)});
  }
}

}  // namespace baton
