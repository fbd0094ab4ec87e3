#include "sim/faults/control.h"

#include <utility>

#include "common/check.h"
#include "kvtransfer/ticket.h"

namespace baton::sim {
namespace {

ObjectiveLeft ObjectiveOf(const router::Objective& objective) {
  return {.ttft_left = absl::Milliseconds(objective.ttft_left_ms), .tpot_ms = objective.tpot_ms};
}

router::RefusalReason ReasonOf(RefuseReason reason) {
  switch (reason) {
    case RefuseReason::kNoRoom:
      return router::RefusalReason::kNoRoom;
    case RefuseReason::kNeverFits:
      return router::RefusalReason::kNeverFits;
    case RefuseReason::kDraining:
      return router::RefusalReason::kDraining;
    case RefuseReason::kStaleAttempt:
      return router::RefusalReason::kStaleAttempt;
    case RefuseReason::kInvalid:
      break;
  }
  return router::RefusalReason::kInvalid;
}

router::FailureReason ReasonOf(FailReason reason) {
  switch (reason) {
    case FailReason::kAborted:
      return router::FailureReason::kAborted;
    case FailReason::kPeerLost:
      return router::FailureReason::kPeerLost;
    case FailReason::kChecksum:
      return router::FailureReason::kChecksum;
    case FailReason::kLeaseExpired:
      return router::FailureReason::kLeaseExpired;
    case FailReason::kDeadline:
      return router::FailureReason::kDeadline;
    case FailReason::kKvExhausted:
      return router::FailureReason::kKvExhausted;
    case FailReason::kInvalid:
      return router::FailureReason::kInvalid;
    case FailReason::kInternal:
      return router::FailureReason::kInternal;
    case FailReason::kTicketRefused:
      break;
  }
  return router::FailureReason::kTicketRefused;
}

// One for each kind of reply.
struct Converter {
  router::WorkerOrigin from;
  RequestKey key;

  router::Event operator()(ReservedReply& reply) const {
    return router::ReservedEvent{from, key, EncodeTicket(reply.ticket), reply.first_missing_token};
  }
  router::Event operator()(RefusedReply& reply) const {
    return router::RefusedEvent{from, key, ReasonOf(reply.reason), std::move(reply.message)};
  }
  router::Event operator()(TokensReply& reply) const {
    return router::TokensEvent{from, key, std::move(reply.tokens)};
  }
  router::Event operator()(PromptLogprobsReply& reply) const {
    return router::PromptLogprobsEvent{from, key, std::move(reply.tokens)};
  }
  router::Event operator()(PrefillDoneReply& reply) const {
    return router::PrefillDoneEvent{from, key, reply.cached_tokens,
                                    absl::ToDoubleMilliseconds(reply.queue),
                                    absl::ToDoubleMilliseconds(reply.prefill)};
  }
  router::Event operator()(SealedReply& reply) const {
    return router::SealedEvent{from,
                               key,
                               reply.stats.bytes,
                               absl::ToDoubleMilliseconds(reply.stats.transfer),
                               absl::ToDoubleMilliseconds(reply.stats.exposed),
                               reply.stats.transport,
                               reply.cached_tokens};
  }
  router::Event operator()(JoinedReply&) const { return router::JoinedEvent{from, key}; }
  router::Event operator()(FinishedReply& reply) const {
    return router::FinishedEvent{
        .from = from, .key = key, .finish = reply.finish, .cached_tokens = reply.cached_tokens};
  }
  router::Event operator()(FailedReply& reply) const {
    return router::FailedEvent{from, key, ReasonOf(reply.reason), std::move(reply.message)};
  }
};

}  // namespace

router::Event EventOf(const router::WorkerOrigin& from, WorkerReply reply) {
  return std::visit(Converter{from, reply.key}, reply.what);
}

router::KvCacheEvent EventOf(const router::WorkerOrigin& from, KvBatch batch) {
  return {.from = from,
          .sequence = batch.sequence,
          .snapshot = batch.snapshot,
          .removed = std::move(batch.changes.removed),
          .stored = std::move(batch.changes.stored)};
}

router::WorkerReportEvent EventOf(const router::WorkerOrigin& from, const StatusSnapshot& status,
                                  absl::Time now) {
  router::WorkerReportEvent event{.from = from, .report = {}};
  router::WorkerReport& report = event.report;
  report.steps_completed = status.steps_completed;
  if (status.step_started.has_value()) {
    report.current_step_age_ms = absl::ToDoubleMilliseconds(now - *status.step_started);
  }
  report.running = status.running;
  report.waiting = status.waiting;
  report.free_blocks = status.blocks.free;
  report.cached_blocks = status.blocks.cached;
  report.busy_blocks = status.total_blocks() - status.available_blocks();
  report.credits = status.role.credits;
  report.step_ms_ewma = status.step_ms_ewma;
  report.step_time = status.step_time;
  report.draining = status.role.draining;
  report.prefill_factors = status.prefill_factors;
  report.decode_factors = status.decode_factors;
  report.decode_rows = static_cast<int32_t>(status.work_at_hand.decode_rows);
  report.decode_context = status.work_at_hand.decode_context;
  report.prefill_tokens_left = status.work_at_hand.prefill_tokens;
  report.prefill_pairs_left = status.work_at_hand.prefill_pairs;
  return event;
}

WorkerCommand CommandOf(const router::SendReserve& action) {
  return ReserveCommand{.key = action.key,
                        .spec = *action.spec,
                        .deadline = action.time_left,
                        .lease = action.lease,
                        .objective = ObjectiveOf(action.objective)};
}

WorkerCommand CommandOf(const router::SendPrefill& action) {
  const absl::StatusOr<Ticket> ticket = DecodeTicket(action.ticket);
  BATON_CHECK(ticket.ok()) << ticket.status().ToString();
  return PrefillCommand{.key = action.key,
                        .spec = *action.spec,
                        .deadline = action.time_left,
                        .lease = action.lease,
                        .ticket = *ticket,
                        .first_missing_token = action.first_missing_token,
                        .peer = {.host = action.destination.host,
                                 .port = action.destination.port,
                                 .boot_id = action.destination.boot.value(),
                                 .machine_id = action.destination.machine_id},
                        .objective = ObjectiveOf(action.objective)};
}

WorkerCommand CommandOf(const router::SendGenerate& action) {
  return GenerateCommand{.key = action.key,
                         .spec = *action.spec,
                         .deadline = action.time_left,
                         .objective = ObjectiveOf(action.objective)};
}

WorkerCommand CommandOf(const router::SendAbort& action) {
  AbortCommand abort{.key = action.key, .sample = std::nullopt};
  if (action.sample >= 0) abort.sample = action.sample;
  return abort;
}

}  // namespace baton::sim
