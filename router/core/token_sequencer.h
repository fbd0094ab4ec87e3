// Puts the tokens of one request in order and drops what was seen before (H6).
//
// The first tokens come from the prefill worker and the rest from the decode worker, over two
// streams that are not ordered against each other; a later attempt repeats tokens of an earlier
// one. So tokens are keyed by (sample, index): one that comes early is held, one that comes again
// is dropped after a check that it is the same token.
#pragma once

#include <cstdint>
#include <map>
#include <optional>
#include <vector>

#include "absl/status/status.h"
#include "common/request.h"

namespace baton::router {

// Not thread-safe. Pure.
class TokenSequencer {
 public:
  TokenSequencer() = default;
  TokenSequencer(int32_t first_sample, int32_t num_samples);

  // Appends to `ready` the tokens that are now in order. An error means that a worker broke the
  // protocol: an unknown sample, a repeated index with another token, or too many held tokens.
  absl::Status Push(TokenOutput token, std::vector<TokenOutput>* ready);
  // Returns the finish once all tokens it counts are out; else holds it. Repeats are dropped.
  absl::Status Finish(const SampleFinish& finish);
  // The finishes that became due by Push or Finish; each is given once.
  std::vector<SampleFinish> TakeFinishes();
  // Ends a sample from our side: later tokens and its finish are dropped.
  void Stop(int32_t sample);
  // Forgets what is held: the next attempt says it again.
  void StartAttempt();

  bool AllEnded() const { return num_ended_ == static_cast<int32_t>(samples_.size()); }
  bool ended(int32_t sample) const { return Find(sample) != nullptr && Find(sample)->ended; }
  // A token or a finish is held that waits for an earlier token.
  bool HasGap() const;
  // Every sample that has not ended has at least `count` tokens out.
  bool EachHas(int32_t count) const;
  int64_t total_tokens() const;
  // Tokens of `sample` that went out, in order.
  const std::vector<TokenId>& tokens(int32_t sample) const;
  int32_t first_sample() const { return first_sample_; }
  int32_t num_samples() const { return static_cast<int32_t>(samples_.size()); }

 private:
  struct Sample {
    std::vector<TokenId> out;
    std::map<int32_t, TokenOutput> held;  // by index, all > out.size()
    std::optional<SampleFinish> held_finish;
    bool ended = false;
  };

  const Sample* Find(int32_t sample) const;
  Sample* Find(int32_t sample);
  void EndIfDue(Sample& sample);

  int32_t first_sample_ = 0;
  int32_t num_ended_ = 0;
  std::vector<Sample> samples_;
  std::vector<SampleFinish> due_;
};

}  // namespace baton::router
