// What is said to workers.
#include <algorithm>
#include <cstdint>

#include "proto/baton/v1/worker.pb.h"
#include "router/link/proto_convert.h"

namespace baton::router {
namespace {

// At least 1: on the wire 0 means no limit.
int32_t ToMs(absl::Duration duration) {
  constexpr int64_t kDayMs = int64_t{24} * 3600 * 1000;
  return static_cast<int32_t>(std::clamp<int64_t>(absl::ToInt64Milliseconds(duration), 1, kDayMs));
}

void ToProto(const RequestKey& key, v1::RequestKey* out) {
  out->set_request(key.request.value());
  out->set_attempt(key.attempt);
}

void ToProto(const GenerationSpec& spec, v1::GenerationSpec* out) {
  out->mutable_tokens()->Add(spec.tokens.begin(), spec.tokens.end());
  out->set_prompt_length(spec.prompt_length);
  out->set_num_samples(spec.num_samples);
  out->set_first_sample(spec.first_sample);
  out->set_cache_salt(spec.cache_salt);
  v1::SamplingSpec* sampling = out->mutable_sampling();
  sampling->set_temperature(spec.sampling.temperature);
  sampling->set_top_p(spec.sampling.top_p);
  sampling->set_min_p(spec.sampling.min_p);
  sampling->set_top_k(spec.sampling.top_k);
  sampling->set_presence_penalty(spec.sampling.presence_penalty);
  sampling->set_frequency_penalty(spec.sampling.frequency_penalty);
  sampling->set_repetition_penalty(spec.sampling.repetition_penalty);
  sampling->set_seed(spec.sampling.seed);
  for (const auto& [token, bias] : spec.sampling.logit_bias) {
    v1::LogitBias* entry = sampling->add_logit_bias();
    entry->set_token(token);
    entry->set_bias(bias);
  }
  sampling->set_num_logprobs(spec.sampling.num_logprobs);
  sampling->set_num_prompt_logprobs(spec.sampling.num_prompt_logprobs);
  v1::StoppingSpec* stopping = out->mutable_stopping();
  stopping->set_max_tokens(spec.stopping.max_tokens);
  stopping->set_min_tokens(spec.stopping.min_tokens);
  stopping->set_ignore_eos(spec.stopping.ignore_eos);
  stopping->mutable_stop_token_ids()->Add(spec.stopping.stop_token_ids.begin(),
                                          spec.stopping.stop_token_ids.end());
}

void ToProto(const Objective& objective, v1::Objective* out) {
  out->set_ttft_left_ms(static_cast<float>(objective.ttft_left_ms));
  out->set_tpot_ms(static_cast<float>(objective.tpot_ms));
}

}  // namespace

void ToProto(const HelloFields& hello, v1::RouterMessage* message) {
  v1::Hello* out = message->mutable_hello();
  out->set_router_id(hello.router_id);
  out->set_router_epoch(hello.router_epoch);
  out->set_protocol_version(hello.protocol_version);
  out->set_lease_ms(ToMs(hello.lease));
  out->set_model_fingerprint(hello.model_fingerprint);
  out->set_max_batch_messages(kMaxBatchMessages);
}

void ToProto(const SendReserve& action, v1::RouterMessage* message) {
  v1::Reserve* out = message->mutable_reserve();
  ToProto(action.key, out->mutable_key());
  ToProto(*action.spec, out->mutable_spec());
  out->set_deadline_ms(ToMs(action.time_left));
  out->set_lease_ms(ToMs(action.lease));
  ToProto(action.objective, out->mutable_objective());
}

void ToProto(const SendPrefill& action, v1::RouterMessage* message) {
  v1::Prefill* out = message->mutable_prefill();
  ToProto(action.key, out->mutable_key());
  ToProto(*action.spec, out->mutable_spec());
  out->set_deadline_ms(ToMs(action.time_left));
  out->set_lease_ms(ToMs(action.lease));
  out->set_ticket(action.ticket);
  out->set_first_missing_token(action.first_missing_token);
  v1::KvAddress* destination = out->mutable_destination();
  destination->set_host(action.destination.host);
  destination->set_port(action.destination.port);
  destination->set_boot_id(action.destination.boot.value());
  destination->set_layout_fingerprint(action.destination.layout_fingerprint);
  destination->set_machine_id(action.destination.machine_id);
  ToProto(action.objective, out->mutable_objective());
}

void ToProto(const SendGenerate& action, v1::RouterMessage* message) {
  v1::Generate* out = message->mutable_generate();
  ToProto(action.key, out->mutable_key());
  ToProto(*action.spec, out->mutable_spec());
  out->set_deadline_ms(ToMs(action.time_left));
  ToProto(action.objective, out->mutable_objective());
}

void ToProto(const SendKvResync&, v1::RouterMessage* message) { message->mutable_kv_resync(); }

void ToProto(const SendAbort& action, v1::RouterMessage* message) {
  v1::Abort* out = message->mutable_abort();
  ToProto(action.key, out->mutable_key());
  if (action.sample >= 0) out->set_sample(action.sample);
}

}  // namespace baton::router
