#include "router/core/phase.h"

namespace baton::router {

std::optional<Phase> NextPhase(Phase phase, Trigger trigger) {
  if (phase == Phase::kDone) return std::nullopt;
  const bool queued = phase == Phase::kQueued;
  switch (trigger) {
    case Trigger::kDispatchPair:
      if (queued) return Phase::kReserving;
      break;
    case Trigger::kDispatchBoth:
      if (queued) return Phase::kGenerating;
      break;
    case Trigger::kReserved:
      if (phase == Phase::kReserving) return Phase::kPrefilling;
      break;
    case Trigger::kPrefillDone:
      if (phase == Phase::kPrefilling) return Phase::kTransferring;
      break;
    case Trigger::kSealed:
      if (phase == Phase::kPrefilling || phase == Phase::kTransferring) return Phase::kDecoding;
      break;
    case Trigger::kRequeue:
      if (!queued) return Phase::kQueued;
      break;
    case Trigger::kSamplesEnded:
    case Trigger::kEndWithError:
      return Phase::kDone;
  }
  return std::nullopt;
}

std::string_view PhaseName(Phase phase) {
  switch (phase) {
    case Phase::kQueued:
      return "queued";
    case Phase::kReserving:
      return "reserving a decode worker";
    case Phase::kPrefilling:
      return "in prefill";
    case Phase::kTransferring:
      return "transferring KV";
    case Phase::kDecoding:
      return "decoding";
    case Phase::kGenerating:
      return "generating";
    case Phase::kDone:
      return "done";
  }
  return "unknown";
}

}  // namespace baton::router
