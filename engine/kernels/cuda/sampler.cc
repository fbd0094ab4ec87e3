#include "engine/kernels/cuda/sampler.h"

#include <algorithm>
#include <cstring>
#include <memory>
#include <span>
#include <utility>
#include <vector>

#include "absl/strings/str_cat.h"
#include "common/check.h"

namespace baton {

namespace {

constexpr size_t kAlignment = 256;

// Returns where an array of `count` starts that comes behind `*end`.
template <typename T>
size_t Place(size_t count, size_t* end) {
  const size_t begin = *end;
  *end = (begin + count * sizeof(T) + kAlignment - 1) / kAlignment * kAlignment;
  return begin;
}

template <typename T>
void CopyTo(std::byte* memory, const std::vector<T>& values) {
  if (!values.empty()) std::memcpy(memory, values.data(), values.size() * sizeof(T));
}

}  // namespace

absl::StatusOr<CudaSampler> CudaSampler::Create(const CudaContext& context, int32_t max_rows,
                                                int32_t vocab_size) {
  if (vocab_size < 1 || vocab_size > kMaxSampledVocab) {
    return absl::InvalidArgumentError(absl::StrCat("a vocabulary of ", vocab_size,
                                                   " tokens on the device: 1 to ", kMaxSampledVocab,
                                                   " are allowed"));
  }
  ASSIGN_OR_RETURN(DeviceArray<std::byte> scratch,
                   DeviceArray<std::byte>::Create(SamplingScratchBytes(max_rows, vocab_size)));
  CudaSampler sampler(context, max_rows, vocab_size,
                      std::make_shared<DeviceArray<std::byte>>(std::move(scratch)));
  RETURN_IF_ERROR(sampler.Allocate());
  return sampler;
}

absl::StatusOr<CudaSampler> CudaSampler::CreateBeside(const CudaSampler& other) {
  CudaSampler sampler(*other.context_, other.max_rows_, other.vocab_size_, other.scratch_);
  RETURN_IF_ERROR(sampler.Allocate());
  return sampler;
}

absl::Status CudaSampler::Allocate() {
  const auto rows = static_cast<size_t>(max_rows_);
  ASSIGN_OR_RETURN(device_drawn_, DeviceArray<CudaDrawnToken>::Create(rows));
  ASSIGN_OR_RETURN(drawn_, PinnedArray<CudaDrawnToken>::Create(rows));
  return absl::OkStatus();
}

void CudaSampler::Clear() {
  max_logprobs_ = 0;
  rows_.clear();
  biases_.clear();
  masked_.clear();
  history_.clear();
}

absl::Status CudaSampler::AddRow(const CudaSampleRow& row) {
  BATON_CHECK(num_rows() < max_rows_) << max_rows_;
  const int32_t wanted = std::min(row.num_logprobs, vocab_size_);
  if (wanted > kMaxTopLogprobs) {
    return absl::InvalidArgumentError(absl::StrCat(row.num_logprobs,
                                                   " log-probabilities of a token: at most ",
                                                   kMaxTopLogprobs, " are allowed"));
  }
  max_logprobs_ = std::max(max_logprobs_, wanted);
  rows_.push_back(row);
  return absl::OkStatus();
}

absl::Status CudaSampler::Add(int32_t logits_row, const SampleContext& context) {
  const SamplingParams& sampling = context.sampling;
  const auto known = [&](TokenId token) { return token >= 0 && token < vocab_size_; };
  const bool greedy = sampling.temperature < kGreedyTemperature;
  CudaSampleRow row{.logits_row = logits_row,
                    .seed = sampling.seed,
                    .sample = context.sample,
                    .index = context.index(),
                    .num_logprobs = sampling.num_logprobs,
                    .scale = greedy ? 0.0f : 1.0f / sampling.temperature,
                    .top_p = sampling.top_p,
                    .min_p = sampling.min_p,
                    .top_k = sampling.top_k,
                    .presence_penalty = sampling.presence_penalty,
                    .frequency_penalty = sampling.frequency_penalty,
                    .repetition_penalty = sampling.repetition_penalty};
  row.bias_begin = static_cast<int32_t>(biases_.size());
  for (const auto& [token, bias] : sampling.logit_bias) {
    if (known(token)) biases_.push_back({.token = token, .bias = bias});
  }
  row.bias_end = static_cast<int32_t>(biases_.size());
  row.masked_begin = static_cast<int32_t>(masked_.size());
  if (context.MasksStopTokens()) {
    std::ranges::copy_if(context.eos_tokens, std::back_inserter(masked_), known);
    std::ranges::copy_if(context.stopping.stop_token_ids, std::back_inserter(masked_), known);
  }
  row.masked_end = static_cast<int32_t>(masked_.size());
  row.history_begin = static_cast<int32_t>(history_.size());
  row.outputs_begin = row.history_begin + context.prompt_length;
  if (HasPenalties(sampling)) {
    BATON_CHECK(context.num_unknown == 0) << "penalties for tokens that are not known";
    history_.insert(history_.end(), context.tokens.begin(), context.tokens.end());
  }
  row.history_end = static_cast<int32_t>(history_.size());
  return AddRow(row);
}

absl::Status CudaSampler::AddGiven(int32_t logits_row, TokenId token, int32_t num_logprobs) {
  BATON_CHECK(token >= 0 && token < vocab_size_) << token;
  return AddRow(
      {.logits_row = logits_row, .given = token, .num_logprobs = std::max(num_logprobs, 0)});
}

CudaSampler::Offsets CudaSampler::LayOut() const {
  Offsets offsets;
  offsets.rows = Place<CudaSampleRow>(rows_.size(), &offsets.end);
  offsets.biases = Place<TokenBias>(biases_.size(), &offsets.end);
  offsets.masked = Place<TokenId>(masked_.size(), &offsets.end);
  offsets.history = Place<TokenId>(history_.size(), &offsets.end);
  return offsets;
}

absl::Status CudaSampler::UploadInputs(const Offsets& offsets) {
  if (offsets.end > staging_.size()) {
    ASSIGN_OR_RETURN(staging_, PinnedArray<std::byte>::Create(2 * offsets.end));
    ASSIGN_OR_RETURN(inputs_, DeviceArray<std::byte>::Create(2 * offsets.end));
  }
  CopyTo(staging_.data() + offsets.rows, rows_);
  CopyTo(staging_.data() + offsets.biases, biases_);
  CopyTo(staging_.data() + offsets.masked, masked_);
  CopyTo(staging_.data() + offsets.history, history_);
  Upload(*context_, std::span<const std::byte>(staging_.data(), offsets.end), &inputs_);
  return absl::OkStatus();
}

absl::Status CudaSampler::ReserveTop() {
  const size_t size = static_cast<size_t>(max_rows_) * static_cast<size_t>(max_logprobs_);
  if (size <= device_top_.size()) return absl::OkStatus();
  ASSIGN_OR_RETURN(device_top_, DeviceArray<TokenLogprob>::Create(size));
  ASSIGN_OR_RETURN(top_, PinnedArray<TokenLogprob>::Create(size));
  return absl::OkStatus();
}

absl::Status CudaSampler::Start(const float* logits) {
  const Offsets offsets = LayOut();
  RETURN_IF_ERROR(UploadInputs(offsets));
  RETURN_IF_ERROR(ReserveTop());
  const std::byte* inputs = inputs_.data();
  SampleTokens(*context_, {.logits = logits,
                           .rows = reinterpret_cast<const CudaSampleRow*>(inputs + offsets.rows),
                           .biases = reinterpret_cast<const TokenBias*>(inputs + offsets.biases),
                           .masked = reinterpret_cast<const TokenId*>(inputs + offsets.masked),
                           .history = reinterpret_cast<const TokenId*>(inputs + offsets.history),
                           .drawn = device_drawn_.data(),
                           .top_logprobs = device_top_.data(),
                           .scratch = scratch_->data(),
                           .num_rows = num_rows(),
                           .vocab_size = vocab_size_,
                           .max_logprobs = max_logprobs_});
  Download(*context_, device_drawn_, std::span(drawn_.data(), rows_.size()));
  Download(*context_, device_top_,
           std::span(top_.data(), rows_.size() * static_cast<size_t>(max_logprobs_)));
  return context_->status();
}

absl::StatusOr<DrawnToken> CudaSampler::Take(int32_t row) const {
  BATON_CHECK(row >= 0 && row < num_rows()) << row;
  const CudaDrawnToken& drawn = drawn_.data()[row];
  switch (drawn.result) {
    case CudaDraw::kNotFinite:
      return absl::InternalError(
          absl::StrCat("logit of token ", drawn.token, " is ", drawn.logprob));
    case CudaDraw::kNothing:
      return absl::InternalError("the logits of all tokens are -inf");
    case CudaDraw::kDrawn:
      break;
  }
  DrawnToken token{.token = drawn.token, .logprob = drawn.logprob};
  const int32_t num_top = std::clamp(rows_[static_cast<size_t>(row)].num_logprobs, 0, vocab_size_);
  const TokenLogprob* top = top_.data() + int64_t{row} * max_logprobs_;
  token.top_logprobs.assign(top, top + num_top);
  return token;
}

}  // namespace baton
