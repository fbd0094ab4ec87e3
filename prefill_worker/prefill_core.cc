#include "prefill_worker/prefill_core.h"

#include <algorithm>
#include <utility>

#include "common/check.h"
#include "common/strings.h"
#include "worker/prompt_logprobs.h"

namespace baton {
namespace {

// What is wrong with a command that names a landing place, or empty.
std::string TicketProblem(const PrefillCommand& command, int32_t block_size) {
  const int32_t tokens = static_cast<int32_t>(command.spec.tokens.size());
  const int32_t first = command.first_missing_token;
  if (first < 0 || first > tokens || first % block_size != 0) {
    return absl::StrCat("first_missing_token ", first, " must be a multiple of ", block_size,
                        " within the ", tokens, " tokens");
  }
  if (command.ticket.key != command.key) return "the ticket is another request's";
  const int32_t first_block = first / block_size;
  const int32_t num_blocks = BlocksForTokens(tokens, block_size) - first_block;
  if (command.ticket.first_block != first_block || command.ticket.num_blocks != num_blocks) {
    return absl::StrCat("the ticket is for ", command.ticket.num_blocks, " blocks from ",
                        command.ticket.first_block, ", the prompt needs ", num_blocks, " from ",
                        first_block);
  }
  return "";
}

RefusedReply RefusalOf(const absl::Status& status) {
  const bool never = absl::IsInvalidArgument(status);
  return {.reason = never ? RefuseReason::kNeverFits : RefuseReason::kNoRoom,
          .message = std::string(View(status.message()))};
}

}  // namespace

PrefillCore::PrefillCore(const PrefillCoreOptions& options, Scheduler& scheduler,
                         SendingPort& sender, RouterPort& routers)
    : options_(options), scheduler_(scheduler), sender_(sender), routers_(routers) {
  BATON_CHECK(options.num_layers > 0 && options.block_size > 0 && options.credits > 0);
}

void PrefillCore::OnCommand(SessionId session, WorkerCommand command, absl::Time now) {
  if (auto* prefill = std::get_if<PrefillCommand>(&command)) {
    OnPrefill(session, std::move(*prefill), now);
  } else if (const auto* abort = std::get_if<AbortCommand>(&command)) {
    OnAbort(session, *abort);
  } else if (std::holds_alternative<DrainCommand>(command)) {
    OnDrain();
  } else if (const auto* reserve = std::get_if<ReserveCommand>(&command)) {
    RefuseRole(session, reserve->key);
  } else if (const auto* generate = std::get_if<GenerateCommand>(&command)) {
    RefuseRole(session, generate->key);
  }
}

void PrefillCore::RefuseRole(SessionId session, RequestKey key) {
  routers_.Send(session,
                {key, RefusedReply{RefuseReason::kInvalid, "a prefill worker takes Prefill only"}});
}

void PrefillCore::OnPrefill(SessionId session, PrefillCommand command, absl::Time now) {
  const RequestKey key = command.key;
  const auto refuse = [&](RefuseReason reason, std::string message) {
    routers_.Send(session, {key, RefusedReply{reason, std::move(message)}});
  };
  if (!fence_.IsFresh(key)) {
    return refuse(RefuseReason::kStaleAttempt, "this or a later attempt was accepted before");
  }
  if (draining_) return refuse(RefuseReason::kDraining, "the worker is draining");
  if (std::string problem = TicketProblem(command, options_.block_size); !problem.empty()) {
    return refuse(RefuseReason::kInvalid, std::move(problem));
  }
  CancelOlderAttempts(key);
  if (computing() >= options_.credits) {
    return refuse(RefuseReason::kNoRoom, absl::StrCat("all ", options_.credits, " credits in use"));
  }

  Entry entry;
  entry.session = session;
  entry.prompt_tokens = static_cast<int32_t>(command.spec.tokens.size());
  entry.prompt_start = command.spec.tokens.front();
  entry.owes_prompt_logprobs = command.spec.sampling.num_prompt_logprobs >= 0;
  entry.first_sample = command.spec.first_sample;
  entry.with_logprobs = command.spec.sampling.num_logprobs >= 0;
  entry.next_block = command.ticket.first_block;
  entry.first_tokens.resize(static_cast<size_t>(command.spec.num_samples));
  entry.accepted = now;
  entry.deadline = now + command.deadline;
  absl::StatusOr<SequenceId> sequence = scheduler_.Add(
      std::move(command.spec), SequenceMode::kPrefillOnly, command.objective.From(now));
  if (!sequence.ok()) {
    routers_.Send(session, {key, RefusalOf(sequence.status())});
    return;
  }
  entry.sequence = *sequence;
  sender_.Open({.key = key,
                .ticket = command.ticket,
                .peer = std::move(command.peer),
                .lease_deadline = now + command.lease});
  fence_.Accept(key);
  deadlines_.Add(entry.deadline, key);
  keys_.emplace(*sequence, key);
  entries_.emplace(key, std::move(entry));
}

void PrefillCore::OnAbort(SessionId session, const AbortCommand& command) {
  // One sample's stop string matters to the worker that decodes it: its prefill is shared.
  if (command.sample.has_value()) return;
  const auto found = entries_.find(command.key);
  if (found == entries_.end() || found->second.session != session) return;
  const FailedReply reply{FailReason::kAborted, "aborted by the router"};
  Cancel(command.key, found->second, &reply);
}

void PrefillCore::OnSessionEnd(SessionId session, absl::Time) {
  if (options_.mutations.keep_after_session) return;
  for (auto& [key, entry] : entries_) {
    if (entry.session == session) Cancel(key, entry, nullptr);
  }
}

void PrefillCore::OnHandoff(const HandoffEvent& event, absl::Time now) {
  if (const auto* sender_event = std::get_if<SenderEvent>(&event)) OnSender(*sender_event, now);
}

void PrefillCore::OnSender(const SenderEvent& event, absl::Time) {
  const auto found = entries_.find(event.key);
  if (found == entries_.end()) return;
  Entry& entry = found->second;
  if (const auto* failed = std::get_if<SenderEvent::Failed>(&event.what)) {
    if (entry.state == State::kClosing) return;
    scheduler_.Abort(entry.sequence, /*keep_pinned=*/true);
    const FailedReply reply{FailReasonOf(failed->failure), failed->message};
    Close(event.key, entry, &reply);
  } else if (std::holds_alternative<SenderEvent::Delivered>(event.what)) {
    if (entry.state == State::kSending) {
      Close(event.key, entry, nullptr);
    } else if (entry.state != State::kClosing) {
      const FailedReply reply{FailReason::kInternal, "the peer sealed an unfinished handoff"};
      Cancel(event.key, entry, &reply);
    }
  } else {
    if (entry.state != State::kClosing) {
      const FailedReply reply{FailReason::kInternal, "the sender let go of an open handoff"};
      scheduler_.Abort(entry.sequence, /*keep_pinned=*/true);
      Close(event.key, entry, &reply);
    }
    scheduler_.Release(entry.sequence);
    Forget(event.key);
  }
}

void PrefillCore::OnLayer(int32_t layer, const StepPlan& plan, absl::Time step_start) {
  for (const StepPlan::Row& row : plan.rows) {
    const auto found = keys_.find(row.sequence);
    if (found == keys_.end()) continue;
    Entry& entry = entries_.at(found->second);
    if (entry.state == State::kQueued) {
      entry.state = State::kComputing;
      entry.started = step_start;
      entry.cached_tokens = row.start_position;
    }
    if (entry.state == State::kComputing) PushRow(layer, row, found->second, entry);
  }
}

// Final in `layer` after this row: every full block up to the row's end, and the partial last one
// when the row ends the prompt. Blocks that the prefix cache held are final in all layers before
// the first row has run, so they go out at once.
void PrefillCore::PushRow(int32_t layer, const StepPlan::Row& row, RequestKey key, Entry& entry) {
  const auto push = [&](int32_t in_layer, int32_t begin, int32_t end) {
    if (begin >= end) return;
    sender_.Push(key, in_layer, begin,
                 {row.block_table.begin() + begin, row.block_table.begin() + end});
  };
  if (layer == 0) {
    const int32_t cached_end = row.start_position / options_.block_size;
    if (entry.next_block < cached_end) {
      for (int32_t each = 0; each < options_.num_layers; ++each) {
        push(each, entry.next_block, cached_end);
      }
      entry.next_block = cached_end;
    }
  }
  const int32_t end_token = row.start_position + static_cast<int32_t>(row.tokens.size());
  const int32_t end_block = row.ends_prompt ? BlocksForTokens(end_token, options_.block_size)
                                            : end_token / options_.block_size;
  push(layer, entry.next_block, end_block);
  if (layer == options_.num_layers - 1) entry.next_block = std::max(entry.next_block, end_block);
}

void PrefillCore::OnStep(StepResult result, absl::Time now) {
  for (StepResult::PromptLogprobs& part : result.prompt_logprobs) {
    const auto found = keys_.find(part.sequence);
    if (found == keys_.end()) continue;
    AppendPromptLogprobs(&entries_.at(found->second).prompt_logprobs, std::move(part.tokens));
  }
  OnEvents(result.events, now);
}

void PrefillCore::OnEvents(const std::vector<SequenceEvent>& events, absl::Time now) {
  // One Tokens message a key and step: first gather, then send at the key's next other event.
  for (size_t i = 0; i < events.size(); ++i) {
    const auto found = keys_.find(events[i].sequence);
    if (found == keys_.end()) continue;
    const RequestKey key = found->second;
    Entry& entry = entries_.at(key);
    if (entry.state == State::kClosing) continue;
    if (std::holds_alternative<SequenceEvent::Token>(events[i].what)) {
      TokensReply reply{.with_logprobs = entry.with_logprobs};
      for (; i < events.size() && events[i].sequence == entry.sequence; ++i) {
        const auto* token = std::get_if<SequenceEvent::Token>(&events[i].what);
        if (token == nullptr) break;
        const size_t branch = static_cast<size_t>(token->output.sample - entry.first_sample);
        BATON_CHECK(branch < entry.first_tokens.size()) << token->output.sample;
        entry.first_tokens[branch] = token->output.token;
        ++entry.tokens_drawn;
        reply.tokens.push_back(token->output);
      }
      --i;
      totals_.generation_tokens += reply.tokens.size();
      if (std::exchange(entry.owes_prompt_logprobs, false)) {
        SendPromptLogprobs(entry.session, key, entry.prompt_start, std::move(entry.prompt_logprobs),
                           routers_);
      }
      routers_.Send(entry.session, {key, std::move(reply)});
    } else if (const auto* done = std::get_if<SequenceEvent::PromptDone>(&events[i].what)) {
      entry.cached_tokens = done->cached_tokens;
      OnPromptDone(key, entry, now);
    } else if (const auto* failed = std::get_if<SequenceEvent::Failed>(&events[i].what)) {
      sender_.Abort(key);
      const FailedReply reply{FailReason::kKvExhausted,
                              std::string(View(failed->status.message()))};
      Close(key, entry, &reply);
    }
  }
}

void PrefillCore::OnPromptDone(RequestKey key, Entry& entry, absl::Time now) {
  BATON_CHECK(entry.state == State::kComputing);
  BATON_CHECK(entry.tokens_drawn == static_cast<int32_t>(entry.first_tokens.size()))
      << entry.tokens_drawn;
  entry.state = State::kSending;
  totals_.prompt_tokens += static_cast<uint64_t>(entry.prompt_tokens);
  routers_.Send(entry.session, {key, PrefillDoneReply{.cached_tokens = entry.cached_tokens,
                                                      .queue = entry.started - entry.accepted,
                                                      .prefill = now - entry.started}});
  sender_.Finish(key, {.first_tokens = entry.first_tokens});
  if (options_.mutations.release_before_sent) scheduler_.Release(entry.sequence);
}

void PrefillCore::OnTime(absl::Time now) {
  for (const RequestKey key : deadlines_.TakeDue(now)) {
    Entry& entry = entries_.at(key);
    const FailedReply reply{FailReason::kDeadline, entry.state == State::kQueued      ? "queue"
                                                   : entry.state == State::kComputing ? "prefill"
                                                                                      : "transfer"};
    Cancel(key, entry, &reply);
  }
}

void PrefillCore::OnEngineBroken(const absl::Status& status, absl::Time) {
  draining_ = true;
  const FailedReply reply{FailReason::kInternal, std::string(View(status.message()))};
  for (auto& [key, entry] : entries_) Cancel(key, entry, &reply);
}

void PrefillCore::Close(RequestKey key, Entry& entry, const FailedReply* reply) {
  BATON_CHECK(entry.state != State::kClosing) << key;
  entry.state = State::kClosing;
  deadlines_.Remove(entry.deadline, key);
  if (reply == nullptr) return;
  ++totals_.failed;
  routers_.Send(entry.session, {key, *reply});
}

void PrefillCore::Cancel(RequestKey key, Entry& entry, const FailedReply* reply) {
  if (entry.state == State::kClosing) return;
  sender_.Abort(key);
  // The sends that are under way still read the blocks: pinned until Released (H7).
  scheduler_.Abort(entry.sequence, /*keep_pinned=*/true);
  Close(key, entry, reply);
}

void PrefillCore::CancelOlderAttempts(RequestKey key) {
  const FailedReply reply{FailReason::kAborted,
                          absl::StrCat("superseded by attempt ", key.attempt)};
  for (auto older = entries_.lower_bound({key.request, 0}); older != entries_.end(); ++older) {
    if (older->first.request != key.request) break;
    Cancel(older->first, older->second, &reply);
  }
}

void PrefillCore::Forget(RequestKey key) {
  const auto found = entries_.find(key);
  keys_.erase(found->second.sequence);
  entries_.erase(found);
}

int32_t PrefillCore::computing() const {
  return static_cast<int32_t>(std::count_if(entries_.begin(), entries_.end(), [](const auto& each) {
    return each.second.state == State::kQueued || each.second.state == State::kComputing;
  }));
}

RoleView PrefillCore::view() const {
  RoleView view = totals_;
  for (const auto& [key, entry] : entries_) {
    ++(entry.state == State::kClosing ? view.closing : view.open);
  }
  view.draining = draining_;
  view.credits = draining_ ? 0 : std::max(0, options_.credits - computing());
  return view;
}

std::string_view PrefillCore::StateName(RequestKey key) const {
  const auto found = entries_.find(key);
  if (found == entries_.end()) return "none";
  switch (found->second.state) {
    case State::kQueued:
      return "queued";
    case State::kComputing:
      return "computing";
    case State::kSending:
      return "sending";
    case State::kClosing:
      return "closing";
  }
  return "unknown";
}

void PrefillCore::CheckInvariants() const {
  BATON_CHECK(keys_.size() == entries_.size()) << keys_.size() << " " << entries_.size();
  size_t has_deadline = 0;
  for (const auto& [key, entry] : entries_) {
    const auto found = keys_.find(entry.sequence);
    BATON_CHECK(found != keys_.end() && found->second == key) << key;
    BATON_CHECK(!fence_.IsFresh(key)) << key;
    has_deadline += entry.state != State::kClosing && entry.deadline != absl::InfiniteFuture();
  }
  BATON_CHECK(deadlines_.size() == has_deadline) << deadlines_.size() << " " << has_deadline;
  BATON_CHECK(computing() <= options_.credits) << computing();
}

}  // namespace baton
