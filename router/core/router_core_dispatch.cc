// Who is let in, and who goes where when.
#include <algorithm>
#include <cmath>
#include <utility>

#include "absl/strings/str_cat.h"
#include "common/check.h"
#include "router/core/router_core.h"

namespace baton::router {
namespace {

constexpr int32_t kMostShedAtOnce = 32;
constexpr double kNominalPrefillMsPerToken = 0.1;  // before anything was predicted or measured
// In-place prefill is a share of the dispatched prefill time of about so long.
constexpr double kShareWindowMs = 10'000;
constexpr double kNoTpot = 1e9;  // a single token has none to miss

int64_t SpecBytes(const GenerationSpec& spec) {
  return static_cast<int64_t>(spec.tokens.size() * sizeof(TokenId) + sizeof(GenerationSpec));
}

}  // namespace

// ------------------------------------------------------------------ admission

bool RouterCore::Admit(const SubmitEvent& event) {
  if (requests_.contains(event.request)) {
    RejectNew(event, RequestErrorCode::kInternal, "this request id is in use");
    return false;
  }
  if (draining_) {
    RejectNew(event, RequestErrorCode::kDraining, "the router is draining");
    return false;
  }
  const GenerationSpec& spec = *event.spec;
  if (spec.num_samples < 1 || spec.prompt_length < 1 || event.slo_class < 0 ||
      static_cast<size_t>(event.slo_class) >= options_.slo_classes.size() ||
      static_cast<size_t>(spec.prompt_length) != spec.tokens.size()) {
    RejectNew(event, RequestErrorCode::kInvalid, "a request needs a prompt and a sample");
    return false;
  }
  if (cluster_.model_info().has_value()) {
    const int32_t limit = cluster_.model_info()->max_model_len;
    if (spec.prompt_length >= limit) {
      RejectNew(event, RequestErrorCode::kContextLength,
                absl::StrCat("the prompt has ", spec.prompt_length,
                             " tokens; this model's maximum context length is ", limit, " tokens"));
      return false;
    }
  }
  if (now_ < pressed_until_ && ShedOrderOf(event.slo_class) > pressed_by_) {
    Refuse(event, Verdict::kShed,
           {.code = RequestErrorCode::kOverloaded,
            .message = "overloaded: only classes that are kept longer are let in",
            .retry_after = absl::Seconds(absl::ToInt64Seconds(pressed_until_ - now_) + 1)});
    return false;
  }
  for (int32_t shed = 0; !queue_.HasRoom(event.tenant, SpecBytes(spec)); ++shed) {
    const std::optional<RequestId> victim =
        queue_.ShedVictim(event.slo_class, absl::InfiniteFuture());
    if (!victim.has_value() || shed == kMostShedAtOnce) {
      Refuse(event, Verdict::kQueueFull,
             {.code = RequestErrorCode::kOverloaded,
              .message = absl::StrCat("the queue is full: ", queue_.size(), " requests wait"),
              .retry_after = RetryAfter()});
      return false;
    }
    Shed(*victim);
  }
  return true;
}

int32_t RouterCore::ShedOrderOf(int32_t slo_class) const {
  return options_.slo_classes[static_cast<size_t>(slo_class)].shed_order;
}

// A request of this class would miss for want of capacity: for a while, none of it goes to classes
// that are shed before. Without the while, they would be let in again with each gap, and shed.
void RouterCore::Press(int32_t slo_class) {
  const int32_t order = ShedOrderOf(slo_class);
  if (now_ < pressed_until_ && order > pressed_by_) return;
  pressed_by_ = order;
  pressed_until_ = now_ + options_.admission.press;
}

void RouterCore::Shed(RequestId victim) {
  Fail(*requests_.at(victim), RequestErrorCode::kOverloaded,
       "overloaded: a request of a class that is kept longer took this one's place",
       Verdict::kShed);
}

// `request` is not among the open ones yet.
bool RouterCore::AdmitByForecast(const SubmitEvent& event, RequestState& request) {
  if (options_.admission.mode == AdmissionMode::kOff || !event.slo_stated) return true;
  const int32_t workers = PrefillWorkers();
  const auto judge = [&](bool if_shed) -> AdmissionAnswer {
    const QueuedWork work = queue_.Ahead(request.queue_entry, now_, workers, if_shed);
    AdmissionQuestion question{
        .slo = event.slo,
        .slo_class = options_.slo_classes[static_cast<size_t>(event.slo_class)].name,
        .waited_ms = absl::ToDoubleMilliseconds(now_ - event.arrival),
        .timeout_ms = absl::ToDoubleMilliseconds(event.timeout),
        .prompt_tokens = event.spec->prompt_length,
        .most_output = event.spec->stopping.max_tokens,
        .idle = requests_.empty(),
        .forecast = MakeForecast(Parts(), QueryFor(request), work)};
    if (!question.forecast.known) return {};
    request.forecast_wait_ms = work.prefill_us > 0 ? question.forecast.wait_ms : 0;
    const double ms_per_ms = question.forecast.ms_per_ms;
    question.prefill_ms =
        ms_per_ms * static_cast<double>(request.queue_entry.work.prefill_us) / 1000;
    AdmissionAnswer answer = Judge(options_.admission, question);
    if (answer.verdict != Verdict::kAdmit) return answer;
    question.behind_ms =
        queue_.TimeInHandBehindMs(request.queue_entry, now_, workers, ms_per_ms, if_shed);
    return Judge(options_.admission, question);
  };
  AdmissionAnswer answer = judge(/*if_shed=*/false);
  if (answer.verdict == Verdict::kAdmit) return true;
  if (answer.verdict == Verdict::kTtft || answer.verdict == Verdict::kTpot) Press(event.slo_class);
  // Requests of classes that are shed before this one's make room, if that is enough.
  if (answer.verdict == Verdict::kTtft && judge(/*if_shed=*/true).verdict == Verdict::kAdmit) {
    const absl::Time rank = queue_.RankOf(now_, request.queue_entry.start_by);
    for (int32_t shed = 0; shed < kMostShedAtOnce && answer.verdict == Verdict::kTtft; ++shed) {
      const std::optional<RequestId> victim = queue_.ShedVictim(event.slo_class, rank);
      if (!victim.has_value()) break;
      Shed(*victim);
      answer = judge(/*if_shed=*/false);
    }
    if (answer.verdict == Verdict::kAdmit) return true;
  }
  Refuse(event, answer.verdict,
         {.code = RequestErrorCode::kOverloaded,
          .message = answer.message,
          .retry_after = answer.retry_after});
  return false;
}

int32_t RouterCore::PrefillWorkers() const {
  return std::max(1, cluster_.NumAccepting(cluster_.HasPair() ? Role::kPrefill : Role::kBoth));
}

double RouterCore::NominalPrefillMs(int64_t tokens) const {
  const Role role = cluster_.HasPair() ? Role::kPrefill : Role::kBoth;
  const auto& quickest = cluster_.quickest_prefill(role).ranked();
  if (!quickest.empty()) return PrefillMs(cluster_.worker(quickest.begin()->second), tokens, 0);
  return static_cast<double>(tokens) *
         (prefill_ms_per_token_ > 0 ? prefill_ms_per_token_ : kNominalPrefillMsPerToken);
}

// REQUIRES: the request is open and in phase kQueued.
void RouterCore::PrepareEntry(const SubmitEvent& event, RequestState& request) {
  const GenerationSpec& spec = *event.spec;
  const auto tokens = static_cast<int64_t>(spec.tokens.size());
  const double prefill_ms = NominalPrefillMs(tokens);
  const bool predicted = prefill_ms_per_token_ > 0 ||
                         !cluster_.quickest_prefill(Role::kPrefill).ranked().empty() ||
                         !cluster_.quickest_prefill(Role::kBoth).ranked().empty();
  request.queue_entry = {
      .request = event.request,
      .tenant = event.tenant,
      .slo_class = event.slo_class,
      .weight = options_.slo_classes[static_cast<size_t>(event.slo_class)].weight,
      .priority = event.priority,
      .arrival = event.arrival,
      .start_by =
          event.arrival + absl::Milliseconds(event.slo.ttft_ms - (predicted ? prefill_ms : 0)),
      .patience = absl::Milliseconds(event.slo.ttft_ms),
      .arrival_number = next_arrival_number_++,
      .bytes = SpecBytes(spec),
      .work = {.prefill_us = std::llround(prefill_ms * 1000),
               .rows = spec.num_samples,
               .context = spec.num_samples * tokens}};
}

// ------------------------------------------------------------------ dispatch

PlacementParts RouterCore::Parts() const {
  return {.cluster = cluster_,
          .prefixes = prefixes_,
          .links = links_,
          .pairs = pairs_,
          .in_place_on_decode = options_.conditional_disaggregation,
          .in_place_share = in_place_share_,
          .wait_factor = wait_error_.factor()};
}

PlacementQuery RouterCore::QueryFor(RequestState& request) const {
  const GenerationSpec& spec = *request.attempt_spec;
  if (request.prefix.empty() && cluster_.model_info().has_value()) {
    request.prefix = HashPrefix(request.spec->tokens, cluster_.model_info()->block_size,
                                request.spec->cache_salt);
  }
  const int32_t most = spec.stopping.max_tokens;
  const int32_t expected = lengths_.Expected(most, spec.stopping.ignore_eos);
  return {.now = now_,
          .tokens = static_cast<int64_t>(spec.tokens.size()),
          .samples = spec.num_samples,
          .expected_output = static_cast<double>(std::max(1, expected - request.first_index())),
          .objective = {.ttft_left_ms = request.TtftLeftMs(now_),
                        .tpot_ms = most > 1 ? request.slo.tpot_ms : kNoTpot},
          .prefix = &request.prefix,
          .hold_until = request.queue_entry.returned || !options_.hold_for_neighbours
                            ? absl::InfinitePast()
                            : request.queue_entry.start_by + options_.queue.late_patience,
          .never = request.never,
          .avoid = request.avoid};
}

// Strictly in queue order: if the first request cannot start, none behind it does, so that a large
// one is not starved by small ones.
void RouterCore::DispatchQueued() {
  if (!std::exchange(dispatch_due_, false)) return;
  dispatch_at_ = absl::InfiniteFuture();
  while (!queue_.empty()) {
    RequestState& request = *requests_.at(queue_.Front(now_));
    const PlacementAnswer answer = ChoosePlacement(Parts(), QueryFor(request));
    if (!answer.placement.has_value()) {
      dispatch_at_ = answer.try_again;
      return;
    }
    Dispatch(request, *answer.placement);
  }
}

void RouterCore::Dispatch(RequestState& request, const Placement& placement) {
  if (last_dispatch_ != absl::InfinitePast() && queue_.size() > 1) {
    const double interval_ms = absl::ToDoubleMilliseconds(now_ - last_dispatch_);
    dispatch_interval_ms_ =
        dispatch_interval_ms_ == 0 ? interval_ms : 0.9 * dispatch_interval_ms_ + 0.1 * interval_ms;
  }
  last_dispatch_ = now_;
  if (placement.path != Path::kColocated) {
    const double weight = std::min(1.0, placement.prefill_ms / kShareWindowMs);
    in_place_share_ += weight * ((placement.path == Path::kInPlace ? 1 : 0) - in_place_share_);
  }
  const Role role = cluster_.worker(placement.prefill).info.role;
  queue_.Dispatch(request.id, placement.prefill_ms / std::max(1, cluster_.NumAccepting(role)));
  request.stages.queue_ms += absl::ToDoubleMilliseconds(now_ - request.phase_since);
  if (request.attempt == 0) {
    wait_error_.Observe(request.forecast_wait_ms,
                        absl::ToDoubleMilliseconds(now_ - request.arrival));
  }
  ++request.attempt;
  if (options_.mutations.deadline_from_dispatch) {
    request.deadline = now_ + (request.deadline - request.arrival);
  }
  request.prefill_reported = false;
  request.joined = false;
  request.sequencer.StartAttempt();
  TakeWorkers(request, placement);
  const RequestKey key{request.id, request.attempt};
  const Objective objective = request.ObjectiveAt(now_);
  if (placement.in_place()) {
    Move(request, Trigger::kDispatchBoth);
    actions_.push_back(SendGenerate{.worker = placement.prefill,
                                    .key = key,
                                    .spec = request.attempt_spec,
                                    .time_left = request.deadline - now_,
                                    .objective = objective,
                                    .path = placement.path});
    for (const int32_t sample : request.stopped_samples) {
      actions_.push_back(SendAbort{placement.prefill, key, sample});
    }
    return;
  }
  Move(request, Trigger::kDispatchPair);
  actions_.push_back(SendReserve{.worker = placement.decode,
                                 .key = key,
                                 .spec = request.attempt_spec,
                                 .time_left = request.deadline - now_,
                                 .lease = options_.handoff_lease,
                                 .objective = objective});
}

void RouterCore::TakeWorkers(RequestState& request, const Placement& placement) {
  request.prefill = placement.prefill;
  request.decode = placement.decode;
  request.prefill_name = cluster_.worker(placement.prefill).info.id;
  request.decode_name = cluster_.worker(placement.decode).info.id;
  request.prefill_cost_ms = placement.prefill_ms;
  cluster_.TakeCredit(now_, placement.prefill, placement.prefill_ms);
  request.holds_credit = true;
  request.probes_pair =
      placement.path == Path::kHandoff && pairs_.Place(now_, {placement.prefill, placement.decode});
  const GenerationSpec& spec = *request.attempt_spec;
  const int32_t most = std::max(1, spec.stopping.max_tokens - request.first_index());
  const int32_t expected =
      lengths_.Expected(spec.stopping.max_tokens, spec.stopping.ignore_eos) - request.first_index();
  request.decode_slot = cluster_.AddRow(
      placement.decode, {.samples = spec.num_samples,
                         .context = spec.num_samples * static_cast<int64_t>(spec.tokens.size()),
                         .expected = std::clamp(expected, 1, most),
                         .most = most,
                         // Nobody waits for an objective that nobody stated.
                         .tpot_ms = request.slo_stated ? request.slo.tpot_ms : kNoTpot,
                         .starts_ms = MsOf(now_) + placement.start_ms,
                         // One that resumes has a client that reads already.
                         .due_ms = MsOf(request.lost_attempts > 0 ? now_ : request.HoldUntil())});
  request.decode_open = true;
  // What is dispatched again is judged by its last dispatch, unless its client has tokens.
  if (placement.known && !request.TtftMs().has_value()) {
    request.prediction.ttft_ms =
        absl::ToDoubleMilliseconds(now_ - request.arrival) + placement.ttft_ms;
    request.prediction.tpot_ms = placement.step_ms;
  }
}

// The time in which half of the queue is dispatched at the present pace: a retry then finds room.
absl::Duration RouterCore::RetryAfter() const {
  const double half_queue_ms = dispatch_interval_ms_ * queue_.size() / 2;
  return std::clamp(absl::Milliseconds(half_queue_ms), absl::Seconds(1), absl::Seconds(60));
}

}  // namespace baton::router
