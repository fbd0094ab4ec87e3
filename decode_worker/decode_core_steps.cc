// What engine steps do to the requests of a DecodeCore.
#include <algorithm>
#include <utility>

#include "common/check.h"
#include "common/strings.h"
#include "decode_worker/decode_core.h"
#include "worker/prompt_logprobs.h"

namespace baton {

void DecodeCore::OnLayer(int32_t layer, const StepPlan& plan, absl::Time step_start) {
  if (layer != 0) return;
  for (const StepPlan::Row& row : plan.rows) {
    const auto found = keys_.find(row.sequence);
    if (found == keys_.end()) continue;
    Entry& entry = entries_.at(found->second);
    if (entry.state == State::kQueued) {
      entry.state = State::kPrefilling;
      entry.started = step_start;
      entry.cached_tokens = row.start_position;
    } else if (entry.state == State::kSealed) {
      entry.state = State::kDecoding;
      entry.decode_started = step_start;
      routers_.Send(entry.session, {found->second, JoinedReply{}});
    }
  }
}

void DecodeCore::OnStep(StepResult result, absl::Time now) {
  for (StepResult::PromptLogprobs& part : result.prompt_logprobs) {
    const auto found = keys_.find(part.sequence);
    if (found == keys_.end()) continue;
    AppendPromptLogprobs(&entries_.at(found->second).prompt_logprobs, std::move(part.tokens));
  }
  // All of a key's tokens of this step go in one message, before its Finished.
  std::map<RequestKey, std::vector<TokenOutput>> tokens;
  for (const SequenceEvent& event : result.events) {
    const auto* token = std::get_if<SequenceEvent::Token>(&event.what);
    const auto found = keys_.find(event.sequence);
    if (token != nullptr && found != keys_.end()) tokens[found->second].push_back(token->output);
  }
  for (auto& [key, outputs] : tokens) {
    Entry& entry = entries_.at(key);
    if (entry.state != State::kClosing) OnTokens(key, entry, std::move(outputs), now);
  }
  for (const SequenceEvent& event : result.events) {
    const auto found = keys_.find(event.sequence);
    if (found == keys_.end()) continue;
    const auto at = entries_.find(found->second);
    if (at->second.state == State::kClosing) continue;
    if (const auto* finished = std::get_if<SequenceEvent::BranchFinished>(&event.what)) {
      FinishSample(at, finished->finish, now);
    } else if (const auto* failed = std::get_if<SequenceEvent::Failed>(&event.what)) {
      const FailedReply reply{FailReason::kKvExhausted,
                              std::string(View(failed->status.message()))};
      if (at->second.state == State::kLanding) receiver_.Abort(at->first);
      End(at, &reply);
    } else if (std::holds_alternative<SequenceEvent::Done>(event.what)) {
      const FailedReply reply{FailReason::kInternal, "the engine ended it with samples open"};
      End(at, &reply);
    }
  }
}

void DecodeCore::OnTokens(RequestKey key, Entry& entry, std::vector<TokenOutput> tokens,
                          absl::Time now) {
  if (!entry.first_token.has_value()) entry.first_token = now;
  if (entry.state == State::kPrefilling) {
    entry.state = State::kDecoding;
    entry.decode_started = now;
    totals_.prompt_tokens += static_cast<uint64_t>(entry.prompt_tokens);
  }
  // A sample whose Finished has gone out says nothing more.
  std::erase_if(tokens, [&](const TokenOutput& token) {
    const size_t branch = static_cast<size_t>(token.sample - entry.first_sample);
    BATON_CHECK(branch < entry.finished.size()) << key << " sample " << token.sample;
    if (!entry.finished[branch]) ++entry.output_tokens[branch];
    return entry.finished[branch];
  });
  totals_.generation_tokens += tokens.size();
  if (tokens.empty()) return;
  if (std::exchange(entry.owes_prompt_logprobs, false)) {
    SendPromptLogprobs(entry.session, key, entry.prompt_start, std::move(entry.prompt_logprobs),
                       routers_);
  }
  routers_.Send(entry.session, {key, TokensReply{std::move(tokens), entry.with_logprobs}});
}

void DecodeCore::FinishSample(Entries::iterator at, const SampleFinish& finish, absl::Time now) {
  Entry& entry = at->second;
  const size_t branch = static_cast<size_t>(finish.sample - entry.first_sample);
  BATON_CHECK(branch < entry.finished.size()) << at->first << " sample " << finish.sample;
  if (entry.finished[branch]) return;
  entry.finished[branch] = true;
  switch (finish.reason) {
    case FinishReason::kStop:
      ++totals_.finished_stop;
      break;
    case FinishReason::kLength:
      ++totals_.finished_length;
      break;
    case FinishReason::kAborted:
      ++totals_.finished_abort;
      break;
  }
  routers_.Send(entry.session,
                {at->first, FinishedReply{finish, entry.cached_tokens, Times(entry, now)}});
  if (std::count(entry.finished.begin(), entry.finished.end(), false) == 0) End(at, nullptr);
}

StageTimes DecodeCore::Times(const Entry& entry, absl::Time now) const {
  StageTimes times;
  if (entry.started.has_value()) {
    times.queue = *entry.started - entry.accepted;
    times.prefill = entry.first_token.value_or(now) - *entry.started;
  }
  if (entry.sealed.has_value()) {
    times.decode_queue = entry.decode_started.value_or(now) - *entry.sealed;
  }
  if (entry.decode_started.has_value()) times.decode = now - *entry.decode_started;
  return times;
}

}  // namespace baton
