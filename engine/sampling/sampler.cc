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
constexpr size_t kSumChunk = 512;

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
  float max = scan.max;
  if (adjusted.data() != logits.data()) {
    const RowScan rescan = ScanRow(adjusted);
    if (rescan.valid) {
      max = rescan.max;
    } else {
      adjusted = logits;  // nothing is left to draw
    }
  }

  DrawnToken drawn;
  drawn.token = context.sampling.temperature < kGreedyTemperature
                    ? IndexOf(adjusted, max)
                    : DrawFrom(adjusted, max, context);
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
  const bool masks = context.MasksStopTokens();
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
  if (HasPenalties(sampling)) {
    BATON_CHECK(context.num_unknown == 0) << "penalties for tokens that are not known";
    ApplyPenalties(context);
  }
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

TokenId Sampler::DrawFrom(std::span<const float> logits, float max, const SampleContext& context) {
  const SamplingParams& sampling = context.sampling;
  const double uniform = UniformAt(sampling.seed, context.sample, context.index());
  const float scale = 1.0f / sampling.temperature;
  if (sampling.top_k > 0) {
    SelectTop(logits, sampling.top_k, &top_);
    for (Candidate& candidate : top_) {
      candidate.value = ExpNonPositive((candidate.value - max) * scale);
    }
    std::erase_if(top_, [&](const Candidate& candidate) {
      return candidate.value == 0 || candidate.value < sampling.min_p;
    });
    double total = 0;
    for (const Candidate& candidate : top_) total += double{candidate.value};
    const double wanted = total * double{sampling.top_p};
    double kept = 0;
    size_t size = 0;
    while (size < top_.size() && (size == 0 || kept < wanted)) {
      kept += double{top_[size++].value};
    }
    top_.resize(size);
    return DrawFromTop(uniform);
  }
  weights_.resize(logits.size());
  ExpRow(logits, max, scale, weights_);
  if (sampling.min_p > 0) {
    for (float& weight : weights_) weight = weight >= sampling.min_p ? weight : 0.0f;
  }
  if (sampling.top_p >= 1.0f) return DrawFromWeights(uniform);
  SelectMass(weights_, SumRow(weights_) * double{sampling.top_p}, &top_);
  return DrawFromTop(uniform);
}

// Walks the tokens by id until `uniform` of the weight is behind, whole chunks first.
TokenId Sampler::DrawFromWeights(double uniform) {
  const std::span<const float> weights = weights_;
  const auto chunk_at = [&](size_t chunk) {
    const size_t start = chunk * kSumChunk;
    return weights.subspan(start, std::min(kSumChunk, weights.size() - start));
  };
  chunk_sums_.clear();
  double total = 0;
  for (size_t start = 0; start < weights.size(); start += kSumChunk) {
    chunk_sums_.push_back(SumRow(chunk_at(chunk_sums_.size())));
    total += chunk_sums_.back();
  }
  const double target = uniform * total;
  double behind = 0;
  size_t chunk = 0;
  // The last chunk with any weight takes what rounding leaves over.
  size_t last = chunk_sums_.size() - 1;
  while (chunk_sums_[last] == 0) --last;
  while (chunk < last && behind + chunk_sums_[chunk] <= target) behind += chunk_sums_[chunk++];
  TokenId drawn = 0;
  const auto inside = chunk_at(chunk);
  for (size_t i = 0; i < inside.size(); ++i) {
    if (inside[i] == 0) continue;
    drawn = static_cast<TokenId>(chunk * kSumChunk + i);
    behind += double{inside[i]};
    if (behind > target) break;
  }
  return drawn;
}

// Walks the candidates, most likely first.
TokenId Sampler::DrawFromTop(double uniform) {
  double total = 0;
  for (const Candidate& candidate : top_) total += double{candidate.value};
  const double target = uniform * total;
  double behind = 0;
  for (const Candidate& candidate : top_) {
    behind += double{candidate.value};
    if (behind > target) return candidate.token;
  }
  return top_.back().token;
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
