// The life of one request, as a table. Every change of phase in the router core goes through
// NextPhase, so this table is the truth. "-": the trigger cannot happen or changes nothing there.
//
//               Queued      Reserving   Prefilling    Transferring  Decoding  Generating  Done
// kDispatchPair Reserving   -           -             -             -         -           -
// kDispatchBoth Generating  -           -             -             -         -           -
// kReserved     -           Prefilling  -             -             -         -           -
// kPrefillDone  -           -           Transferring  -             -         -           -
// kSealed       -           -           Decoding      Decoding      -         -           -
// kRequeue      -           Queued      Queued        Queued        Queued    Queued      -
// kSamplesEnded Done        Done        Done          Done          Done      Done        -
// kEndWithError Done        Done        Done          Done          Done      Done        -
//
// Prefilling → Decoding: the two workers' streams are not ordered against each other, so Sealed may
// arrive first. kRequeue starts the next attempt: a worker refused or was lost. kSamplesEnded
// before Decoding: a stop string within the first tokens, or in those that an earlier attempt gave.
#pragma once

#include <array>
#include <optional>
#include <string_view>

namespace baton::router {

enum class Phase {
  kQueued,
  kReserving,
  kPrefilling,
  kTransferring,
  kDecoding,
  kGenerating,
  kDone,
};
inline constexpr std::array kAllPhases = {
    Phase::kQueued,   Phase::kReserving,  Phase::kPrefilling, Phase::kTransferring,
    Phase::kDecoding, Phase::kGenerating, Phase::kDone};

enum class Trigger {
  kDispatchPair,
  kDispatchBoth,
  kReserved,
  kPrefillDone,
  kSealed,
  kRequeue,
  kSamplesEnded,
  kEndWithError,
};
inline constexpr std::array kAllTriggers = {
    Trigger::kDispatchPair, Trigger::kDispatchBoth, Trigger::kReserved,     Trigger::kPrefillDone,
    Trigger::kSealed,       Trigger::kRequeue,      Trigger::kSamplesEnded, Trigger::kEndWithError};

// Empty where the table has "-".
std::optional<Phase> NextPhase(Phase phase, Trigger trigger);

// As a 504 names it: "queued", "reserving a decode worker", …
std::string_view PhaseName(Phase phase);

}  // namespace baton::router
