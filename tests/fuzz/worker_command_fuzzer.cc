// What a router may say to a worker, as serialized bytes. A command that the worker takes is one
// that its scheduler takes, and comes out the same when the router's code writes it again.
#include <cstdint>
#include <string>
#include <variant>

#include "common/check.h"
#include "tests/fuzz/pieces.h"
#include "tests/fuzz/spec_checks.h"

namespace baton {
namespace {

constexpr int32_t kVocabSize = 50;
const CommandLimits kLimits{.max_model_len = kFuzzModelLen, .vocab_size = kVocabSize};

void CheckTime(absl::Duration left) {
  BATON_CHECK(left > absl::ZeroDuration()) << absl::FormatDuration(left);
  BATON_CHECK(left <= kLimits.max_duration || left == absl::InfiniteDuration())
      << absl::FormatDuration(left);
}

void CheckObjective(const ObjectiveLeft& objective) {
  BATON_CHECK(objective.tpot_ms >= 0) << objective.tpot_ms;
  // The moment it is due is one that Abseil can tell from "never".
  const absl::Time due = objective.From(absl::UnixEpoch()).first_token_due;
  BATON_CHECK((due == absl::InfiniteFuture()) == (objective.ttft_left == absl::InfiniteDuration()));
}

void CheckSpecs(const RequestKey& key, const GenerationSpec& spec,
                const v1::RouterMessage& message) {
  BATON_CHECK(spec.num_samples <= kLimits.max_samples) << spec.num_samples;
  BATON_CHECK(spec.first_sample < kLimits.max_samples) << spec.first_sample;
  for (const auto& [token, bias] : spec.sampling.logit_bias) {
    BATON_CHECK(token >= 0 && token < kVocabSize) << token;
  }
  for (const TokenId token : spec.stopping.stop_token_ids) {
    BATON_CHECK(token >= 0 && token < kVocabSize) << token;
  }
  CheckWorkerTakes(spec, kVocabSize);
  BATON_CHECK(RefusableKey(message) == key);
}

struct Checks {
  const v1::RouterMessage& message;

  void operator()(const ReserveCommand& command) const {
    CheckTime(command.deadline);
    CheckTime(command.lease);
    BATON_CHECK(command.lease != absl::InfiniteDuration());
    CheckObjective(command.objective);
    CheckSpecs(command.key, command.spec, message);
  }
  void operator()(const PrefillCommand& command) const {
    CheckTime(command.deadline);
    CheckTime(command.lease);
    BATON_CHECK(command.lease != absl::InfiniteDuration());
    CheckObjective(command.objective);
    BATON_CHECK(command.first_missing_token >= 0 &&
                command.first_missing_token <= static_cast<int32_t>(command.spec.tokens.size()));
    BATON_CHECK(EncodeTicket(command.ticket) == message.prefill().ticket());
    BATON_CHECK(!command.peer.host.empty() && command.peer.port > 0);
    CheckSpecs(command.key, command.spec, message);
  }
  void operator()(const GenerateCommand& command) const {
    CheckTime(command.deadline);
    CheckObjective(command.objective);
    CheckSpecs(command.key, command.spec, message);
  }
  template <typename Other>
  void operator()(const Other&) const {
    BATON_CHECK(!RefusableKey(message).has_value());
  }
};

}  // namespace
}  // namespace baton

extern "C" int LLVMFuzzerTestOneInput(const uint8_t* data, size_t size) {
  using namespace baton;  // NOLINT
  v1::RouterMessage message;
  if (!message.ParseFromArray(data, static_cast<int>(size))) return 0;
  const auto command = CommandFromProto(message, kLimits);
  if (!command.ok()) {
    BATON_CHECK(!command.status().message().empty());
    return 0;
  }
  std::visit(Checks{message}, *command);
  return 0;
}
