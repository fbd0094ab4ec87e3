#include "router/core/slo.h"

#include <algorithm>
#include <initializer_list>
#include <utility>

namespace baton::router {
namespace {

Stage Longest(std::initializer_list<std::pair<double, Stage>> candidates) {
  return std::max_element(candidates.begin(), candidates.end(),
                          [](const auto& a, const auto& b) { return a.first < b.first; })
      ->second;
}

}  // namespace

std::string_view SloResultName(SloResult result) {
  switch (result) {
    case SloResult::kGood:
      return "good";
    case SloResult::kTtftMiss:
      return "ttft_miss";
    case SloResult::kTpotMiss:
      return "tpot_miss";
    case SloResult::kBoth:
      return "both";
    case SloResult::kError:
      return "error";
    case SloResult::kRejected:
      return "rejected";
    case SloResult::kAborted:
      return "aborted";
  }
  return "unknown";
}

std::string_view StageName(Stage stage) {
  switch (stage) {
    case Stage::kQueue:
      return "queue";
    case Stage::kReserve:
      return "reserve";
    case Stage::kPrefill:
      return "prefill";
    case Stage::kTransfer:
      return "transfer";
    case Stage::kDecodeQueue:
      return "decode_queue";
    case Stage::kDecode:
      return "decode";
  }
  return "unknown";
}

SloOutcome JudgeSlo(const SloTarget& target, double ttft_ms, std::optional<double> tpot_ms,
                    const StageTimes& stages) {
  const bool ttft_missed = ttft_ms > target.ttft_ms;
  const bool tpot_missed = tpot_ms.has_value() && *tpot_ms > target.tpot_ms;
  SloOutcome outcome{.result = SloResult::kGood, .target = target};
  if (ttft_missed) {
    outcome.result = tpot_missed ? SloResult::kBoth : SloResult::kTtftMiss;
    outcome.missed_stage = Longest({{stages.queue_ms, Stage::kQueue},
                                    {stages.reserve_ms, Stage::kReserve},
                                    {stages.prefill_ms, Stage::kPrefill}});
  } else if (tpot_missed) {
    outcome.result = SloResult::kTpotMiss;
    outcome.missed_stage = Longest({{stages.decode_ms, Stage::kDecode},
                                    {stages.decode_queue_ms, Stage::kDecodeQueue},
                                    {stages.transfer_exposed_ms, Stage::kTransfer}});
  }
  return outcome;
}

}  // namespace baton::router
