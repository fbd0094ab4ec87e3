#include "router/core/token_sequencer.h"

#include <algorithm>
#include <utility>

#include "absl/strings/str_cat.h"
#include "common/check.h"

namespace baton::router {
namespace {

// The prefill worker's stream may lag behind the decode worker's by this many tokens of a sample.
constexpr size_t kMaxHeldTokens = 4096;

}  // namespace

TokenSequencer::TokenSequencer(int32_t first_sample, int32_t num_samples)
    : first_sample_(first_sample), samples_(static_cast<size_t>(num_samples)) {}

const TokenSequencer::Sample* TokenSequencer::Find(int32_t sample) const {
  const int64_t offset = int64_t{sample} - first_sample_;
  if (offset < 0 || offset >= static_cast<int64_t>(samples_.size())) return nullptr;
  return &samples_[static_cast<size_t>(offset)];
}

TokenSequencer::Sample* TokenSequencer::Find(int32_t sample) {
  return const_cast<Sample*>(std::as_const(*this).Find(sample));
}

absl::Status TokenSequencer::Push(TokenOutput token, std::vector<TokenOutput>* ready) {
  Sample* sample = Find(token.sample);
  if (sample == nullptr || token.index < 0) {
    return absl::InternalError(absl::StrCat("token of sample ", token.sample, " index ",
                                            token.index, " was not asked for"));
  }
  if (sample->ended) return absl::OkStatus();
  const auto next = static_cast<int32_t>(sample->out.size());
  if (token.index < next) {
    if (sample->out[static_cast<size_t>(token.index)] == token.token) return absl::OkStatus();
    return absl::InternalError(absl::StrCat("sample ", token.sample, " index ", token.index,
                                            " came again as another token"));
  }
  if (token.index > next) {
    if (sample->held.size() >= kMaxHeldTokens) {
      return absl::InternalError(absl::StrCat("sample ", token.sample, " waits for index ", next,
                                              " with ", sample->held.size(), " later tokens held"));
    }
    const int32_t index = token.index;
    sample->held.try_emplace(index, std::move(token));
    return absl::OkStatus();
  }
  sample->out.push_back(token.token);
  ready->push_back(std::move(token));
  for (auto it = sample->held.begin();
       it != sample->held.end() && it->first == static_cast<int32_t>(sample->out.size());
       it = sample->held.erase(it)) {
    sample->out.push_back(it->second.token);
    ready->push_back(std::move(it->second));
  }
  EndIfDue(*sample);
  return absl::OkStatus();
}

absl::Status TokenSequencer::Finish(const SampleFinish& finish) {
  Sample* sample = Find(finish.sample);
  if (sample == nullptr || finish.output_tokens < 0) {
    return absl::InternalError(absl::StrCat("end of sample ", finish.sample, " was not asked for"));
  }
  if (sample->ended) return absl::OkStatus();
  sample->held_finish = finish;
  EndIfDue(*sample);
  return absl::OkStatus();
}

void TokenSequencer::EndIfDue(Sample& sample) {
  if (!sample.held_finish.has_value() || !sample.held.empty()) return;
  if (static_cast<int32_t>(sample.out.size()) < sample.held_finish->output_tokens) return;
  sample.ended = true;
  ++num_ended_;
  due_.push_back(*std::exchange(sample.held_finish, std::nullopt));
}

std::vector<SampleFinish> TokenSequencer::TakeFinishes() { return std::exchange(due_, {}); }

void TokenSequencer::Stop(int32_t sample_index) {
  Sample* sample = Find(sample_index);
  if (sample == nullptr || sample->ended) return;
  sample->ended = true;
  sample->held.clear();
  sample->held_finish.reset();
  ++num_ended_;
}

void TokenSequencer::StartAttempt() {
  for (Sample& sample : samples_) {
    sample.held.clear();
    sample.held_finish.reset();
  }
}

bool TokenSequencer::HasGap() const {
  return std::any_of(samples_.begin(), samples_.end(), [](const Sample& sample) {
    return !sample.held.empty() || sample.held_finish.has_value();
  });
}

bool TokenSequencer::EachHas(int32_t count) const {
  return std::all_of(samples_.begin(), samples_.end(), [count](const Sample& sample) {
    return sample.ended || static_cast<int32_t>(sample.out.size()) >= count;
  });
}

int64_t TokenSequencer::total_tokens() const {
  int64_t total = 0;
  for (const Sample& sample : samples_) total += static_cast<int64_t>(sample.out.size());
  return total;
}

const std::vector<TokenId>& TokenSequencer::tokens(int32_t sample) const {
  const Sample* found = Find(sample);
  BATON_CHECK(found != nullptr) << "sample " << sample;
  return found->out;
}

}  // namespace baton::router
