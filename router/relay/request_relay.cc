#include "router/relay/request_relay.h"

#include <utility>

#include "absl/status/status.h"
#include "absl/strings/str_cat.h"

namespace baton::router {

RequestRelay::RequestRelay(RelayRequest request, int32_t first_sample, int32_t num_samples,
                           std::shared_ptr<ResponseSink> sink)
    : request_(std::move(request)),
      first_sample_(first_sample),
      reasons_(static_cast<size_t>(num_samples), FinishReason::kAborted),
      sink_(std::move(sink)),
      group_(sink_->group()) {
  samples_.reserve(static_cast<size_t>(num_samples));
  for (int32_t i = 0; i < num_samples; ++i) samples_.emplace_back(request_, first_sample + i);
}

SampleRelay* RequestRelay::Find(int32_t sample) {
  const int64_t offset = int64_t{sample} - first_sample_;
  if (offset < 0 || offset >= static_cast<int64_t>(samples_.size())) return nullptr;
  return &samples_[static_cast<size_t>(offset)];
}

void RequestRelay::Send(SampleDelta delta) {
  if (delta.finished) {
    reasons_[static_cast<size_t>(delta.sample - first_sample_)] = delta.reason;
  }
  sink_->OnDelta(std::move(delta));
}

void RequestRelay::OnPromptLogprobs(const std::vector<TokenOutput>& tokens) {
  std::vector<OutputToken> out;
  out.reserve(tokens.size());
  for (const TokenOutput& token : tokens) {
    out.push_back(ToOutputToken(*request_.tokenizer, token, /*with_pieces=*/true));
  }
  sink_->OnPromptLogprobs(std::move(out));
}

absl::StatusOr<bool> RequestRelay::OnToken(const TokenOutput& token) {
  SampleRelay* sample = Find(token.sample);
  if (sample == nullptr) {
    return absl::InternalError(absl::StrCat("token of unknown sample ", token.sample));
  }
  if (sample->finished()) return false;
  absl::StatusOr<SampleDelta> delta = sample->Push(token);
  if (!delta.ok()) return delta.status();
  const bool stopped = delta->finished;
  Send(*std::move(delta));
  return stopped;
}

void RequestRelay::OnSampleFinish(const SampleFinish& finish) {
  SampleRelay* sample = Find(finish.sample);
  if (sample == nullptr || sample->finished()) return;
  Send(sample->Finish(finish));
}

void RequestRelay::Complete(RequestSummary summary) {
  summary.completion_tokens = total_tokens();
  std::exchange(sink_, nullptr)->OnFinish(std::move(summary));
}

void RequestRelay::Fail(RequestError error) {
  std::exchange(sink_, nullptr)->OnError(std::move(error));
}

int32_t RequestRelay::total_tokens() const {
  int32_t total = 0;
  for (const SampleRelay& sample : samples_) total += sample.num_tokens();
  return total;
}

}  // namespace baton::router
