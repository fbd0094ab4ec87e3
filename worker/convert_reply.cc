#include <string>

#include "worker/convert.h"

namespace baton {
namespace {

v1::Refused::Reason ToProto(RefuseReason reason) {
  switch (reason) {
    case RefuseReason::kNoRoom:
      return v1::Refused::NO_ROOM;
    case RefuseReason::kNeverFits:
      return v1::Refused::NEVER_FITS;
    case RefuseReason::kDraining:
      return v1::Refused::DRAINING;
    case RefuseReason::kStaleAttempt:
      return v1::Refused::STALE_ATTEMPT;
    case RefuseReason::kInvalid:
      return v1::Refused::INVALID;
  }
  return v1::Refused::REASON_UNSPECIFIED;
}

v1::Failed::Reason ToProto(FailReason reason) {
  switch (reason) {
    case FailReason::kAborted:
      return v1::Failed::ABORTED;
    case FailReason::kPeerLost:
      return v1::Failed::PEER_LOST;
    case FailReason::kChecksum:
      return v1::Failed::CHECKSUM;
    case FailReason::kLeaseExpired:
      return v1::Failed::LEASE_EXPIRED;
    case FailReason::kDeadline:
      return v1::Failed::DEADLINE;
    case FailReason::kKvExhausted:
      return v1::Failed::KV_EXHAUSTED;
    case FailReason::kInvalid:
      return v1::Failed::INVALID;
    case FailReason::kInternal:
      return v1::Failed::INTERNAL;
    case FailReason::kTicketRefused:
      return v1::Failed::TICKET_REFUSED;
  }
  return v1::Failed::REASON_UNSPECIFIED;
}

void SetKey(RequestKey key, v1::RequestKey* out) {
  out->set_request(key.request.value());
  out->set_attempt(key.attempt);
}

double Ms(absl::Duration duration) { return absl::ToDoubleMilliseconds(duration); }

void FillToken(const TokenOutput& token, bool with_logprob, v1::TokenOutput* out) {
  out->set_sample(token.sample);
  out->set_index(token.index);
  out->set_token(token.token);
  if (!with_logprob) return;
  out->set_logprob(token.logprob);
  for (const TokenLogprob& top : token.top_logprobs) {
    v1::TokenLogprob* entry = out->add_top_logprobs();
    entry->set_token(top.token);
    entry->set_logprob(top.logprob);
  }
}

// Fills the one field of `out` that its overload stands for, besides the key.
struct Filler {
  const RequestKey key;
  v1::WorkerMessage* out;

  void operator()(const ReservedReply& reply) const {
    v1::Reserved* to = out->mutable_reserved();
    SetKey(key, to->mutable_key());
    to->set_ticket(EncodeTicket(reply.ticket));
    to->set_first_missing_token(reply.first_missing_token);
  }
  void operator()(const RefusedReply& reply) const {
    v1::Refused* to = out->mutable_refused();
    SetKey(key, to->mutable_key());
    to->set_reason(ToProto(reply.reason));
    to->set_message(reply.message);
  }
  void operator()(const TokensReply& reply) const {
    v1::Tokens* to = out->mutable_tokens();
    SetKey(key, to->mutable_key());
    for (const TokenOutput& token : reply.tokens) {
      FillToken(token, reply.with_logprobs, to->add_tokens());
    }
  }
  void operator()(const PromptLogprobsReply& reply) const {
    v1::PromptLogprobs* to = out->mutable_prompt_logprobs();
    SetKey(key, to->mutable_key());
    for (const TokenOutput& token : reply.tokens) {
      FillToken(token, /*with_logprob=*/token.index > 0, to->add_tokens());
    }
  }
  void operator()(const PrefillDoneReply& reply) const {
    v1::PrefillDone* to = out->mutable_prefill_done();
    SetKey(key, to->mutable_key());
    to->set_cached_tokens(reply.cached_tokens);
    to->set_queue_ms(Ms(reply.queue));
    to->set_prefill_ms(Ms(reply.prefill));
  }
  void operator()(const SealedReply& reply) const {
    v1::Sealed* to = out->mutable_sealed();
    SetKey(key, to->mutable_key());
    to->set_kv_bytes(reply.stats.bytes);
    to->set_transfer_ms(Ms(reply.stats.transfer));
    to->set_transfer_exposed_ms(Ms(reply.stats.exposed));
    to->set_transport(reply.stats.transport);
    to->set_cached_tokens(reply.cached_tokens);
  }
  void operator()(const JoinedReply&) const { SetKey(key, out->mutable_joined()->mutable_key()); }
  void operator()(const FinishedReply& reply) const {
    v1::Finished* to = out->mutable_finished();
    SetKey(key, to->mutable_key());
    to->set_sample(reply.finish.sample);
    to->set_finish_reason(std::string(FinishReasonName(reply.finish.reason)));
    to->set_stop_token(reply.finish.stop_token);
    to->set_output_tokens(reply.finish.output_tokens);
    to->set_cached_tokens(reply.cached_tokens);
    to->set_decode_queue_ms(Ms(reply.times.decode_queue));
    to->set_decode_ms(Ms(reply.times.decode));
    to->set_queue_ms(Ms(reply.times.queue));
    to->set_prefill_ms(Ms(reply.times.prefill));
  }
  void operator()(const FailedReply& reply) const {
    v1::Failed* to = out->mutable_failed();
    SetKey(key, to->mutable_key());
    to->set_reason(ToProto(reply.reason));
    to->set_message(reply.message);
  }
};

}  // namespace

void StepModelToProto(const StepModel& model, v1::StepModel* out) {
  out->set_prefill_base_ms(model.prefill_base_ms);
  out->set_prefill_token_ms(model.prefill_token_ms);
  out->set_prefill_pair_ms(model.prefill_pair_ms);
  out->set_decode_base_ms(model.decode_base_ms);
  out->set_decode_row_ms(model.decode_row_ms);
  out->set_decode_context_ms(model.decode_context_ms);
  out->set_profiled_prefill_tokens(static_cast<int32_t>(model.profiled_prefill_tokens));
  out->set_profiled_decode_rows(static_cast<int32_t>(model.profiled_decode_rows));
  out->set_profiled_context_tokens(model.profiled_context_tokens);
}

void ReplyToProto(const WorkerReply& reply, v1::WorkerMessage* message) {
  message->Clear();
  std::visit(Filler{reply.key, message}, reply.what);
}

void KvBatchToProto(const KvBatch& batch, v1::KvEvents* out) {
  out->set_sequence(batch.sequence);
  out->set_snapshot(batch.snapshot);
  out->mutable_removed()->Add(batch.changes.removed.begin(), batch.changes.removed.end());
  out->mutable_stored()->Add(batch.changes.stored.begin(), batch.changes.stored.end());
}

void StatusToProto(const StatusSnapshot& snapshot, uint64_t sequence, absl::Time now,
                   v1::WorkerStatus* status) {
  status->set_sequence(sequence);
  status->set_steps_completed(snapshot.steps_completed);
  if (snapshot.step_started.has_value()) {
    status->set_current_step_age_ms(Ms(now - *snapshot.step_started));
  }
  status->set_running(snapshot.running);
  status->set_waiting(snapshot.waiting);
  v1::BlockCensus* blocks = status->mutable_blocks();
  blocks->set_free(snapshot.blocks.free);
  blocks->set_reserved(snapshot.blocks.reserved);
  blocks->set_landing(snapshot.blocks.landing);
  blocks->set_sealed(snapshot.blocks.sealed);
  blocks->set_in_use(snapshot.blocks.in_use);
  blocks->set_cached(snapshot.blocks.cached);
  blocks->set_quarantined(snapshot.blocks.quarantined);
  status->set_credits(snapshot.role.credits);
  status->set_step_ms_ewma(snapshot.step_ms_ewma);
  status->set_step_ms_total(snapshot.step_time.measured_ms);
  status->set_calibrated_step_ms_total(snapshot.step_time.calibrated_ms);
  status->set_draining(snapshot.role.draining);
  status->set_preemptions_total(snapshot.preemptions_total);
  status->set_prefix_cache_query_tokens_total(snapshot.prefix_query_tokens_total);
  status->set_prefix_cache_hit_tokens_total(snapshot.prefix_hit_tokens_total);
  for (const float factor : snapshot.prefill_factors.at) status->add_prefill_factors(factor);
  for (const float factor : snapshot.decode_factors.at) status->add_decode_factors(factor);
  status->set_step_error_ratio(snapshot.step_error_ratio);
  status->set_decode_rows(static_cast<int32_t>(snapshot.work_at_hand.decode_rows));
  status->set_decode_context_tokens(snapshot.work_at_hand.decode_context);
  status->set_prefill_tokens_left(snapshot.work_at_hand.prefill_tokens);
  status->set_prefill_pairs_left(snapshot.work_at_hand.prefill_pairs);
}

}  // namespace baton
