#include "router/relay/sample_relay.h"

#include <algorithm>
#include <span>
#include <utility>

#include "absl/status/status.h"
#include "absl/strings/str_cat.h"
#include "common/check.h"

namespace baton::router {
namespace {

std::string Piece(const Tokenizer& tokenizer, TokenId token) {
  return tokenizer.Decode(std::span<const TokenId>(&token, 1), /*skip_special=*/false);
}

bool Contains(const std::vector<TokenId>& list, TokenId token) {
  return std::find(list.begin(), list.end(), token) != list.end();
}

}  // namespace

OutputToken ToOutputToken(const Tokenizer& tokenizer, const TokenOutput& token, bool with_pieces) {
  OutputToken out{.token = token.token, .logprob = token.logprob};
  if (!with_pieces) return out;
  out.piece = Piece(tokenizer, token.token);
  out.top.reserve(token.top_logprobs.size());
  for (const TokenLogprob& top : token.top_logprobs) {
    out.top.emplace_back(top, Piece(tokenizer, top.token));
  }
  return out;
}

SampleRelay::SampleRelay(const RelayRequest& request, int32_t sample)
    : request_(request),
      sample_(sample),
      detokenizer_(*request.tokenizer, request.prompt, request.output.skip_special_tokens),
      matcher_(request.output.stop) {}

// A token that ends the sample is not part of its text, unless the client asked for what stopped
// it. Such a token cannot be drawn before min_tokens.
bool SampleRelay::HidesText(TokenId token) const {
  if (request_.output.include_stop_str_in_output) return false;
  if (Contains(request_.stopping.stop_token_ids, token)) return true;
  return !request_.stopping.ignore_eos && Contains(request_.eos_tokens, token);
}

void SampleRelay::AddText(const std::string& text, bool may_match, SampleDelta* delta) {
  if (!may_match) {
    delta->text += matcher_.Pass(text);
    return;
  }
  StopMatcher::Result result = matcher_.Push(text);
  delta->text += result.text;
  if (!result.match.has_value()) return;
  if (request_.output.include_stop_str_in_output) delta->text += result.match->stop;
  delta->finished = true;
  delta->reason = FinishReason::kStop;
  delta->stop_reason = std::move(result.match->stop);
  finished_ = true;
}

absl::StatusOr<SampleDelta> SampleRelay::Push(const TokenOutput& token) {
  BATON_CHECK(!finished_) << "sample " << sample_;
  if (token.sample != sample_ || token.index != num_tokens_) {
    return absl::InternalError(absl::StrCat("sample ", sample_, " expects token ", num_tokens_,
                                            ", got token ", token.index, " of sample ",
                                            token.sample));
  }
  ++num_tokens_;
  SampleDelta delta{.sample = sample_};
  delta.tokens.push_back(ToOutputToken(*request_.tokenizer, token, request_.with_pieces));
  if (HidesText(token.token)) return delta;
  const bool may_match = num_tokens_ > request_.stopping.min_tokens;
  AddText(detokenizer_.Push(token.token), may_match, &delta);
  return delta;
}

SampleDelta SampleRelay::Finish(const SampleFinish& finish) {
  BATON_CHECK(!finished_) << "sample " << sample_;
  SampleDelta delta{.sample = sample_};
  AddText(detokenizer_.Finish(), num_tokens_ > request_.stopping.min_tokens, &delta);
  if (finished_) return delta;  // the last incomplete bytes completed a stop string
  delta.text += matcher_.Flush();
  delta.finished = true;
  delta.reason = finish.reason;
  // The model's own end is not a stop reason that the client named.
  if (Contains(request_.stopping.stop_token_ids, finish.stop_token)) {
    delta.stop_token = finish.stop_token;
  }
  finished_ = true;
  return delta;
}

}  // namespace baton::router
