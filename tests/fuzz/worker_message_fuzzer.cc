// What a worker may say to the router, as serialized bytes. What the router takes holds no number
// that its core would have to doubt.
#include <cmath>
#include <cstdint>
#include <string>
#include <variant>
#include <vector>

#include "common/check.h"
#include "proto/baton/v1/worker.pb.h"
#include "router/link/proto_convert.h"
#include "tests/fuzz/pieces.h"

namespace baton::router {
namespace {

const WorkerOrigin kFrom{WorkerIndex(1), SessionId(2)};

void CheckTimes(std::initializer_list<double> values) {
  for (const double value : values) BATON_CHECK(std::isfinite(value) && value >= 0) << value;
}

void CheckFactors(const SizeFactors& factors) {
  for (const float factor : factors.at) {
    BATON_CHECK(factor >= 0.01f && factor <= 100.0f) << factor;
  }
}

void CheckTokens(const std::vector<TokenOutput>& tokens) {
  for (const TokenOutput& token : tokens) {
    BATON_CHECK(token.sample >= 0 && token.index >= 0 && token.token >= 0);
  }
}

struct Checks {
  void operator()(const WorkerUpEvent& up) const {
    const WorkerInfo& info = up.info;
    BATON_CHECK(info.block_size > 0 && info.max_model_len > 0 && info.vocab_size > 0);
    BATON_CHECK(info.total_blocks >= 0 && info.prefill_credits >= 0);
    const StepModel& model = info.step_model;
    CheckTimes({model.prefill_base_ms, model.prefill_token_ms, model.prefill_pair_ms,
                model.decode_base_ms, model.decode_row_ms, model.decode_context_ms});
  }
  void operator()(const WorkerReportEvent& event) const {
    const WorkerReport& report = event.report;
    BATON_CHECK(report.running >= 0 && report.waiting >= 0);
    BATON_CHECK(report.free_blocks >= 0 && report.cached_blocks >= 0 && report.busy_blocks >= 0);
    BATON_CHECK(report.available_blocks() >= report.free_blocks) << report.available_blocks();
    BATON_CHECK(report.decode_rows >= 0 && report.decode_context >= 0);
    BATON_CHECK(report.prefill_tokens_left >= 0);
    CheckTimes({report.current_step_age_ms, report.step_ms_ewma, report.prefill_pairs_left,
                report.step_time.measured_ms, report.step_time.calibrated_ms});
    CheckFactors(report.prefill_factors);
    CheckFactors(report.decode_factors);
  }
  void operator()(const ReservedEvent& event) const {
    BATON_CHECK(event.first_missing_token >= 0) << event.first_missing_token;
  }
  void operator()(const TokensEvent& event) const { CheckTokens(event.tokens); }
  void operator()(const PromptLogprobsEvent& event) const { CheckTokens(event.tokens); }
  void operator()(const PrefillDoneEvent& event) const {
    BATON_CHECK(event.cached_tokens >= 0) << event.cached_tokens;
    CheckTimes({event.queue_ms, event.prefill_ms});
  }
  void operator()(const SealedEvent& event) const {
    BATON_CHECK(event.kv_bytes >= 0 && event.cached_tokens >= 0);
    CheckTimes({event.transfer_ms, event.transfer_exposed_ms});
  }
  void operator()(const FinishedEvent& event) const {
    BATON_CHECK(event.finish.sample >= 0 && event.finish.output_tokens >= 0);
    BATON_CHECK(event.cached_tokens >= 0) << event.cached_tokens;
    CheckTimes({event.decode_queue_ms, event.decode_ms, event.queue_ms, event.prefill_ms});
  }
  template <typename Other>
  void operator()(const Other&) const {}
};

}  // namespace
}  // namespace baton::router

extern "C" int LLVMFuzzerTestOneInput(const uint8_t* data, size_t size) {
  using namespace baton;          // NOLINT
  using namespace baton::router;  // NOLINT
  v1::WorkerMessage message;
  if (!message.ParseFromArray(data, static_cast<int>(size))) return 0;
  const int batch = message.has_batch() ? message.batch().messages_size() : 1;
  const auto events = EventsFromProto(kFrom, message);
  if (!events.ok()) {
    BATON_CHECK(absl::IsInvalidArgument(events.status())) << events.status();
    return 0;
  }
  BATON_CHECK(static_cast<int>(events->size()) == batch && batch <= kMaxBatchMessages) << batch;
  for (const Event& event : *events) std::visit(Checks(), event);
  return 0;
}
