// Wraps any transport and makes it misbehave by a seeded schedule, for tests.
//
// Faults strike what is sent through it; wrap both sides to have them both ways. Time is counted in
// Progress calls, so that a schedule does not depend on a clock.
#pragma once

#include <cstdint>
#include <memory>

#include "kvtransfer/transport.h"

namespace baton {

// Shares of messages in percent, tried in this order; at most one of the first five strikes.
struct FaultRates {
  int disconnect_percent = 0;  // the connection breaks instead
  int drop_percent = 0;        // never arrives, `done` says OK
  int delay_percent = 0;       // arrives up to max_delay_rounds later, overtaken by others
  int duplicate_percent = 0;   // arrives twice; `done` comes after both
  int corrupt_percent = 0;     // one byte of the payload is changed
  // Of accepted payloads: the receive is posted up to max_delay_rounds later, so that data lands
  // after its handoff may have been cancelled.
  int late_percent = 0;
  int max_delay_rounds = 200;
};

// `inner` must outlive the factory. Each transport made draws its own schedule from `seed`.
std::unique_ptr<TransportFactory> MakeFaultFactory(TransportFactory& inner, FaultRates rates,
                                                   uint64_t seed);

}  // namespace baton
