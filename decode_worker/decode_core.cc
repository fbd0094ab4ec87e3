#include "decode_worker/decode_core.h"

#include <algorithm>
#include <utility>

#include "common/check.h"
#include "common/strings.h"
#include "worker/prompt_logprobs.h"

namespace baton {
namespace {

RefusedReply RefusalOf(const absl::Status& status) {
  const bool never = absl::IsInvalidArgument(status);
  return {.reason = never ? RefuseReason::kNeverFits : RefuseReason::kNoRoom,
          .message = std::string(View(status.message()))};
}

// What is wrong with the first tokens that a peer sent, or empty.
std::string TailProblem(const HandoffTail& tail, size_t num_samples, int32_t vocab_size) {
  if (tail.first_tokens.size() != num_samples) {
    return absl::StrCat("the handoff brought ", tail.first_tokens.size(), " first tokens, not ",
                        num_samples);
  }
  for (const TokenId token : tail.first_tokens) {
    if (token < 0 || token >= vocab_size) {
      return absl::StrCat("first token ", token, " is outside the vocabulary of ", vocab_size);
    }
  }
  return "";
}

std::string_view PhaseName(bool landing, bool started) {
  if (landing) return "transfer";
  return started ? "decode" : "queue";
}

}  // namespace

DecodeCore::DecodeCore(const DecodeCoreOptions& options, Scheduler& scheduler,
                       LandingPort& receiver, RouterPort& routers)
    : options_(options), scheduler_(scheduler), receiver_(receiver), routers_(routers) {
  BATON_CHECK(options.block_size > 0 && options.vocab_size > 0 && options.credits > 0);
}

// ------------------------------------------------------------------ commands

void DecodeCore::OnCommand(SessionId session, WorkerCommand command, absl::Time now) {
  if (auto* reserve = std::get_if<ReserveCommand>(&command)) {
    OnReserve(session, std::move(*reserve), now);
  } else if (auto* generate = std::get_if<GenerateCommand>(&command)) {
    OnGenerate(session, std::move(*generate), now);
  } else if (const auto* abort = std::get_if<AbortCommand>(&command)) {
    OnAbort(session, *abort, now);
  } else if (const auto* prefill = std::get_if<PrefillCommand>(&command)) {
    routers_.Send(session, {prefill->key, RefusedReply{RefuseReason::kInvalid,
                                                       "Prefill goes to a prefill worker"}});
  } else if (std::holds_alternative<DrainCommand>(command)) {
    OnDrain();
  }
}

bool DecodeCore::RefuseEarly(SessionId session, RequestKey key) {
  RefusedReply refusal;
  if (!fence_.IsFresh(key)) {
    refusal = {RefuseReason::kStaleAttempt, "this or a later attempt was accepted before"};
  } else if (draining_) {
    refusal = {RefuseReason::kDraining, "the worker is draining"};
  } else {
    const FailedReply superseded{FailReason::kAborted,
                                 absl::StrCat("superseded by attempt ", key.attempt)};
    for (auto at = entries_.lower_bound({key.request, 0});
         at != entries_.end() && at->first.request == key.request;) {
      at = Cancel(at, &superseded);
    }
    return false;
  }
  routers_.Send(session, {key, std::move(refusal)});
  return true;
}

void DecodeCore::OnReserve(SessionId session, ReserveCommand command, absl::Time now) {
  const RequestKey key = command.key;
  if (RefuseEarly(session, key)) return;
  const int32_t num_samples = command.spec.num_samples;
  Entry entry = MakeEntry(State::kLanding, session, command.spec);
  entry.awaits_release = true;
  entry.accepted = now;
  entry.deadline = now + command.deadline;
  absl::StatusOr<Reservation> reservation =
      scheduler_.Reserve(std::move(command.spec), command.objective.From(now));
  if (!reservation.ok()) {
    routers_.Send(session, {key, RefusalOf(reservation.status())});
    return;
  }
  entry.sequence = reservation->sequence;
  entry.cached_tokens = reservation->first_missing_token;
  const Ticket ticket =
      receiver_.Open({.key = key,
                      .first_block = reservation->first_missing_token / options_.block_size,
                      .blocks = std::move(reservation->landing_blocks),
                      .num_samples = num_samples,
                      .lease_deadline = now + command.lease});
  Accept(key, std::move(entry));
  routers_.Send(session, {key, ReservedReply{ticket, reservation->first_missing_token}});
}

void DecodeCore::OnGenerate(SessionId session, GenerateCommand command, absl::Time now) {
  const RequestKey key = command.key;
  if (RefuseEarly(session, key)) return;
  if (before_first_token() >= options_.credits) {
    routers_.Send(session,
                  {key, RefusedReply{RefuseReason::kNoRoom,
                                     absl::StrCat("all ", options_.credits, " credits in use")}});
    return;
  }
  Entry entry = MakeEntry(State::kQueued, session, command.spec);
  entry.owes_prompt_logprobs = command.spec.sampling.num_prompt_logprobs >= 0;
  entry.accepted = now;
  entry.deadline = now + command.deadline;
  absl::StatusOr<SequenceId> sequence =
      scheduler_.Add(std::move(command.spec), SequenceMode::kGenerate, command.objective.From(now));
  if (!sequence.ok()) {
    routers_.Send(session, {key, RefusalOf(sequence.status())});
    return;
  }
  entry.sequence = *sequence;
  Accept(key, std::move(entry));
}

DecodeCore::Entry DecodeCore::MakeEntry(State state, SessionId session,
                                        const GenerationSpec& spec) const {
  const int32_t tokens = static_cast<int32_t>(spec.tokens.size());
  const size_t samples = static_cast<size_t>(spec.num_samples);
  Entry entry;
  entry.state = state;
  entry.session = session;
  entry.prompt_tokens = tokens;
  entry.first_sample = spec.first_sample;
  entry.with_logprobs = spec.sampling.num_logprobs >= 0;
  entry.finished.assign(samples, false);
  entry.output_tokens.assign(samples, tokens - spec.prompt_length);
  entry.prompt_start = spec.tokens.front();
  return entry;
}

void DecodeCore::Accept(RequestKey key, Entry entry) {
  fence_.Accept(key);
  deadlines_.Add(entry.deadline, key);
  keys_.emplace(entry.sequence, key);
  entries_.emplace(key, std::move(entry));
}

void DecodeCore::OnAbort(SessionId session, const AbortCommand& command, absl::Time now) {
  const auto at = entries_.find(command.key);
  if (at == entries_.end() || at->second.session != session) return;
  Entry& entry = at->second;
  if (entry.state == State::kClosing) return;
  if (!command.sample.has_value()) {
    const FailedReply reply{FailReason::kAborted, "aborted by the router"};
    Cancel(at, &reply);
    return;
  }
  const int64_t branch = int64_t{*command.sample} - entry.first_sample;
  if (branch < 0 || branch >= static_cast<int64_t>(entry.finished.size())) return;
  const size_t index = static_cast<size_t>(branch);
  if (entry.finished[index]) return;
  const bool is_last = std::count(entry.finished.begin(), entry.finished.end(), false) == 1;
  if (is_last) {
    if (entry.state == State::kLanding) receiver_.Abort(command.key);
    scheduler_.Abort(entry.sequence, /*keep_pinned=*/false);
  } else if (entry.state == State::kLanding) {
    entry.aborted_early.push_back(*command.sample);
  } else {
    scheduler_.AbortBranch(entry.sequence, *command.sample);
  }
  FinishSample(at,
               {.sample = *command.sample,
                .reason = FinishReason::kAborted,
                .output_tokens = entry.output_tokens[index]},
               now);
}

void DecodeCore::OnSessionEnd(SessionId session, absl::Time) {
  if (options_.mutations.keep_after_session) return;
  for (auto at = entries_.begin(); at != entries_.end();) {
    at = at->second.session == session ? Cancel(at, nullptr) : std::next(at);
  }
}

// ------------------------------------------------------------------ handoff

void DecodeCore::OnHandoff(const HandoffEvent& event, absl::Time now) {
  const auto* receiver_event = std::get_if<ReceiverEvent>(&event);
  if (receiver_event == nullptr) return;
  const auto at = entries_.find(receiver_event->key);
  if (at == entries_.end()) return;
  if (std::holds_alternative<ReceiverEvent::Released>(receiver_event->what)) {
    OnReleased(at);
    return;
  }
  if (at->second.state != State::kLanding) return;  // lost the race with an end from here
  if (const auto* sealed = std::get_if<ReceiverEvent::Sealed>(&receiver_event->what)) {
    OnSealed(at, *sealed, now);
  } else {
    if (options_.mutations.decode_after_failure) {
      const std::vector<TokenId> tokens(at->second.finished.size(), 1);
      return OnSealed(at, {.tail = {tokens}, .stats = {}}, now);
    }
    const auto& failed = std::get<ReceiverEvent::Failed>(receiver_event->what);
    scheduler_.Abort(at->second.sequence, /*keep_pinned=*/false);
    const FailedReply reply{FailReasonOf(failed.failure), failed.message};
    End(at, &reply);
  }
}

void DecodeCore::OnSealed(Entries::iterator at, const ReceiverEvent::Sealed& sealed,
                          absl::Time now) {
  Entry& entry = at->second;
  std::string problem = TailProblem(sealed.tail, entry.finished.size(), options_.vocab_size);
  if (problem.empty()) {
    const absl::Status status = scheduler_.Seal(entry.sequence, sealed.tail.first_tokens);
    if (!status.ok()) problem = status.ToString();
  }
  if (!problem.empty()) {
    scheduler_.Abort(entry.sequence, /*keep_pinned=*/false);
    const FailedReply reply{FailReason::kInternal, std::move(problem)};
    End(at, &reply);
    return;
  }
  entry.state = State::kSealed;
  entry.sealed = now;
  // Prefill has emitted the first tokens.
  for (int32_t& count : entry.output_tokens) ++count;
  for (const int32_t sample : entry.aborted_early) {
    scheduler_.AbortBranch(entry.sequence, sample);
  }
  routers_.Send(entry.session, {at->first, SealedReply{sealed.stats, entry.cached_tokens}});
}

void DecodeCore::OnReleased(Entries::iterator at) {
  Entry& entry = at->second;
  if (!std::exchange(entry.awaits_release, false)) return;
  if (entry.state == State::kLanding) {
    scheduler_.Abort(entry.sequence, /*keep_pinned=*/false);
    scheduler_.LandingReleased(entry.sequence);
    const FailedReply reply{FailReason::kInternal, "the receiver let go of an open handoff"};
    End(at, &reply);
    return;
  }
  scheduler_.LandingReleased(entry.sequence);
  if (entry.state == State::kClosing) {
    keys_.erase(entry.sequence);
    entries_.erase(at);
  }
}

// ------------------------------------------------------------------ endings

void DecodeCore::OnTime(absl::Time now) {
  for (const RequestKey key : deadlines_.TakeDue(now)) {
    const auto at = entries_.find(key);
    const Entry& entry = at->second;
    const bool started = entry.state != State::kQueued && entry.state != State::kSealed;
    const FailedReply reply{FailReason::kDeadline,
                            std::string(PhaseName(entry.state == State::kLanding, started))};
    Cancel(at, &reply);
  }
}

void DecodeCore::OnEngineBroken(const absl::Status& status, absl::Time) {
  draining_ = true;
  const FailedReply reply{FailReason::kInternal, std::string(View(status.message()))};
  for (auto at = entries_.begin(); at != entries_.end();) at = Cancel(at, &reply);
}

DecodeCore::Entries::iterator DecodeCore::Cancel(Entries::iterator at, const FailedReply* reply) {
  Entry& entry = at->second;
  if (entry.state == State::kClosing) return std::next(at);
  if (entry.state == State::kLanding) receiver_.Abort(at->first);
  scheduler_.Abort(entry.sequence, /*keep_pinned=*/false);
  return End(at, reply);
}

DecodeCore::Entries::iterator DecodeCore::End(Entries::iterator at, const FailedReply* reply) {
  Entry& entry = at->second;
  BATON_CHECK(entry.state != State::kClosing) << at->first;
  entry.state = State::kClosing;
  if (options_.mutations.free_before_release) scheduler_.LandingReleased(entry.sequence);
  deadlines_.Remove(entry.deadline, at->first);
  if (reply != nullptr) {
    ++totals_.failed;
    routers_.Send(entry.session, {at->first, *reply});
  }
  if (entry.awaits_release) return std::next(at);
  keys_.erase(entry.sequence);
  return entries_.erase(at);
}

// ------------------------------------------------------------------ views

int32_t DecodeCore::before_first_token() const {
  return static_cast<int32_t>(std::count_if(entries_.begin(), entries_.end(), [](const auto& each) {
    return each.second.state == State::kQueued || each.second.state == State::kPrefilling;
  }));
}

int32_t DecodeCore::live_samples() const {
  int32_t live = 0;
  for (const auto& [key, entry] : entries_) {
    if (entry.state == State::kClosing) continue;
    live += static_cast<int32_t>(std::count(entry.finished.begin(), entry.finished.end(), false));
  }
  return live;
}

RoleView DecodeCore::view() const {
  RoleView view = totals_;
  for (const auto& [key, entry] : entries_) {
    ++(entry.state == State::kClosing ? view.closing : view.open);
  }
  view.draining = draining_;
  const int32_t batch_room = options_.max_batch_sequences - live_samples();
  const int32_t start_room = options_.credits - before_first_token();
  view.credits = draining_ ? 0 : options_.colocated ? std::min(batch_room, start_room) : batch_room;
  view.credits = std::max(0, view.credits);
  return view;
}

std::string_view DecodeCore::StateName(RequestKey key) const {
  const auto found = entries_.find(key);
  if (found == entries_.end()) return "none";
  switch (found->second.state) {
    case State::kLanding:
      return "landing";
    case State::kSealed:
      return "sealed";
    case State::kQueued:
      return "queued";
    case State::kPrefilling:
      return "prefilling";
    case State::kDecoding:
      return "decoding";
    case State::kClosing:
      return "closing";
  }
  return "unknown";
}

void DecodeCore::CheckInvariants() const {
  BATON_CHECK(keys_.size() == entries_.size()) << keys_.size() << " " << entries_.size();
  size_t has_deadline = 0;
  for (const auto& [key, entry] : entries_) {
    const auto found = keys_.find(entry.sequence);
    BATON_CHECK(found != keys_.end() && found->second == key) << key;
    BATON_CHECK(!fence_.IsFresh(key)) << key;
    BATON_CHECK(entry.state != State::kLanding || entry.awaits_release) << key;
    BATON_CHECK(entry.state != State::kClosing || entry.awaits_release) << key;
    const auto open = std::count(entry.finished.begin(), entry.finished.end(), false);
    BATON_CHECK(entry.state == State::kClosing || open > 0) << key;
    has_deadline += entry.state != State::kClosing && entry.deadline != absl::InfiniteFuture();
  }
  BATON_CHECK(deadlines_.size() == has_deadline) << deadlines_.size() << " " << has_deadline;
  BATON_CHECK(before_first_token() <= options_.credits) << before_first_token();
}

}  // namespace baton
