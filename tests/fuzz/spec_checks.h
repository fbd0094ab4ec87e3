// What must hold of every request that a front has accepted, whatever bytes it came from.
#pragma once

#include <memory>
#include <string>

#include "common/check.h"
#include "common/request.h"
#include "engine/scheduler/spec_check.h"
#include "proto/baton/v1/worker.pb.h"
#include "router/completion_service.h"
#include "router/front/limits.h"
#include "router/link/proto_convert.h"
#include "worker/convert.h"

namespace baton {

inline constexpr int32_t kFuzzModelLen = 64;

inline void CheckEqualSpecs(const GenerationSpec& a, const GenerationSpec& b) {
  BATON_CHECK(a.tokens == b.tokens && a.prompt_length == b.prompt_length);
  BATON_CHECK(a.num_samples == b.num_samples && a.first_sample == b.first_sample);
  BATON_CHECK(a.sampling == b.sampling && a.stopping == b.stopping);
  BATON_CHECK(a.cache_salt == b.cache_salt);
}

// The spec as a worker of a model with `vocab_size` tokens gets it from the router: it must take it
// unchanged, and so must its scheduler.
inline void CheckWorkerTakes(const GenerationSpec& spec, int32_t vocab_size) {
  const router::SendGenerate send{.spec = std::make_shared<const GenerationSpec>(spec),
                                  .time_left = absl::Seconds(30)};
  v1::RouterMessage message;
  router::ToProto(send, &message);
  v1::RouterMessage arrived;
  BATON_CHECK(arrived.ParseFromString(message.SerializeAsString()));
  const auto command =
      CommandFromProto(arrived, {.max_model_len = kFuzzModelLen, .vocab_size = vocab_size});
  BATON_CHECK(command.ok()) << command.status();
  CheckEqualSpecs(std::get<GenerateCommand>(*command).spec, spec);
  SchedulerOptions options;
  options.max_model_len = kFuzzModelLen;
  options.vocab_size = vocab_size;
  options.num_blocks = kFuzzModelLen;
  BATON_CHECK_OK(CheckSpec(spec, options));
}

inline void CheckRouted(const RoutedRequest& request, const RequestLimits& limits,
                        int32_t vocab_size) {
  const GenerationSpec& spec = request.spec;
  BATON_CHECK(!spec.tokens.empty() &&
              spec.prompt_length == static_cast<int32_t>(spec.tokens.size()))
      << spec.tokens.size();
  BATON_CHECK(spec.prompt_length + spec.stopping.max_tokens <= kFuzzModelLen)
      << spec.prompt_length << ' ' << spec.stopping.max_tokens;
  BATON_CHECK(spec.num_samples <= limits.max_samples) << spec.num_samples;
  BATON_CHECK(request.output.stop.size() <= kMaxStopStrings);
  for (const std::string& stop : request.output.stop) {
    BATON_CHECK(!stop.empty() && stop.size() <= kMaxStopBytes) << stop.size();
  }
  BATON_CHECK(!CheckSloClass("", request.slo.slo_class, limits)) << request.slo.slo_class;
  for (const auto& objective : {request.slo.ttft_ms, request.slo.tpot_ms}) {
    BATON_CHECK(!objective || !CheckRange("", *objective, kSloMsRange)) << *objective;
  }
  BATON_CHECK(!request.external_id.empty() && request.external_id.size() <= kMaxNameBytes);
  CheckWorkerTakes(spec, vocab_size);
}

}  // namespace baton
