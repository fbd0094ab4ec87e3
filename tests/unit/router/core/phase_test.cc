#include "router/core/phase.h"

#include <gtest/gtest.h>

#include <map>

namespace baton::router {
namespace {

// The table of phase.h, read by hand: what is not listed changes nothing.
const std::map<std::pair<Phase, Trigger>, Phase>& Table() {
  using P = Phase;
  using T = Trigger;
  static const std::map<std::pair<P, T>, P> table = {
      {{P::kQueued, T::kDispatchPair}, P::kReserving},
      {{P::kQueued, T::kDispatchBoth}, P::kGenerating},
      {{P::kQueued, T::kSamplesEnded}, P::kDone},
      {{P::kQueued, T::kEndWithError}, P::kDone},
      {{P::kReserving, T::kReserved}, P::kPrefilling},
      {{P::kReserving, T::kRequeue}, P::kQueued},
      {{P::kReserving, T::kSamplesEnded}, P::kDone},
      {{P::kReserving, T::kEndWithError}, P::kDone},
      {{P::kPrefilling, T::kPrefillDone}, P::kTransferring},
      {{P::kPrefilling, T::kSealed}, P::kDecoding},
      {{P::kPrefilling, T::kRequeue}, P::kQueued},
      {{P::kPrefilling, T::kSamplesEnded}, P::kDone},
      {{P::kPrefilling, T::kEndWithError}, P::kDone},
      {{P::kTransferring, T::kSealed}, P::kDecoding},
      {{P::kTransferring, T::kRequeue}, P::kQueued},
      {{P::kTransferring, T::kSamplesEnded}, P::kDone},
      {{P::kTransferring, T::kEndWithError}, P::kDone},
      {{P::kDecoding, T::kRequeue}, P::kQueued},
      {{P::kDecoding, T::kSamplesEnded}, P::kDone},
      {{P::kDecoding, T::kEndWithError}, P::kDone},
      {{P::kGenerating, T::kRequeue}, P::kQueued},
      {{P::kGenerating, T::kSamplesEnded}, P::kDone},
      {{P::kGenerating, T::kEndWithError}, P::kDone},
  };
  return table;
}

TEST(PhaseTable, EveryPairOfPhaseAndTriggerIsAsWritten) {
  for (const Phase phase : kAllPhases) {
    for (const Trigger trigger : kAllTriggers) {
      const auto found = Table().find({phase, trigger});
      const std::optional<Phase> expected =
          found == Table().end() ? std::nullopt : std::optional(found->second);
      EXPECT_EQ(NextPhase(phase, trigger), expected)
          << PhaseName(phase) << ", trigger " << static_cast<int>(trigger);
    }
  }
}

TEST(PhaseTable, EveryOpenPhaseCanEndWithAnError) {
  for (const Phase phase : kAllPhases) {
    EXPECT_EQ(NextPhase(phase, Trigger::kEndWithError).has_value(), phase != Phase::kDone);
  }
}

}  // namespace
}  // namespace baton::router
