// From tokens to text, for one sample: incremental detokenizing, stop strings, and what the client
// does not want to see.
#pragma once

#include <cstdint>
#include <vector>

#include "absl/status/statusor.h"
#include "common/request.h"
#include "engine/tokenizer/tokenizer.h"
#include "router/completion_service.h"
#include "router/relay/stop_matcher.h"

namespace baton::router {

// What all samples of a request share. Outlives its SampleRelays.
struct RelayRequest {
  const Tokenizer* tokenizer = nullptr;  // not owned; never null
  std::vector<TokenId> prompt;           // the last few tokens suffice
  OutputParams output;
  StoppingParams stopping;
  std::vector<TokenId> eos_tokens;  // of the model
  bool with_pieces = false;         // logprobs were asked for
};

OutputToken ToOutputToken(const Tokenizer& tokenizer, const TokenOutput& token, bool with_pieces);

// Not thread-safe. Pure.
class SampleRelay {
 public:
  SampleRelay(const RelayRequest& request, int32_t sample);

  // What this token makes certain. delta.finished: a stop string ended the sample. INTERNAL: the
  // index is not the next one; nothing is skipped or repeated. REQUIRES: !finished().
  absl::StatusOr<SampleDelta> Push(const TokenOutput& token);
  // The worker ended the sample: its last delta. REQUIRES: !finished().
  SampleDelta Finish(const SampleFinish& finish);

  bool finished() const { return finished_; }
  int32_t num_tokens() const { return num_tokens_; }

 private:
  bool HidesText(TokenId token) const;
  void AddText(const std::string& text, bool may_match, SampleDelta* delta);

  const RelayRequest& request_;
  const int32_t sample_;
  IncrementalDetokenizer detokenizer_;
  StopMatcher matcher_;
  int32_t num_tokens_ = 0;
  bool finished_ = false;
};

}  // namespace baton::router
