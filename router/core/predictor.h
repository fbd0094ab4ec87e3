// How long things will take on a worker: its own step model, corrected by what it measures, over
// the work that it has and the work that the router placed on it since. Pure.
//
// A worker without a step model is ranked by a nominal one, whose figures mean nothing as times:
// callers ask WorkerState::known() before they promise or refuse anything.
#pragma once

#include <cstdint>

#include "absl/time/time.h"
#include "router/core/worker_state.h"

namespace baton::router {

// Of one prompt alone, from its first step to its first token. `cached` tokens have their KV there.
double PrefillMs(const WorkerState& worker, int64_t tokens, int64_t cached);
// Of as many tokens as one step takes: what must lie ready so that a step is full.
double FullPrefillStepMs(const WorkerState& worker);
// Of what the worker said it has left.
double ReportedPrefillMs(const WorkerState& worker);

// The batch of a worker at some moment.
struct DecodeOutlook {
  double rows = 0;
  double context = 0;  // tokens that the rows attend to, in all
  double step_ms = 0;
  double tightest_ms = 0;  // TPOT objective: the least of those that step_ms meets; infinity: none
};

// At `at`, not before `now`: rows that will have ended by then are gone, those that are on their
// way and will have begun are there.
DecodeOutlook DecodeAt(const WorkerState& worker, absl::Time now, absl::Time at);
// A step of that batch with `rows` more of `context` tokens in all.
double StepMsWith(const WorkerState& worker, const DecodeOutlook& outlook, double rows,
                  double context);
// From now to the first token of a prompt that a worker prefills beside its batch, behind the
// prompts that it has: its rows take their steps first, and prompts what their TPOT objectives
// leave. REQUIRES: info.paced_prefill.
double PacedTtftMs(const WorkerState& worker, absl::Time now, int64_t tokens, int64_t cached);
// How long one that comes at `start` from a prefill worker may wait for a step that prefills in
// place. Its first token waits with it (RouterCore::MayHold).
double JoinMs(const WorkerState& worker, absl::Time start);
// Whether rows that are about to begin may wait for a step of `stall_ms`: with their first token
// held back where it is not out yet, else with a gap that does not break their TPOT.
bool StallIsSafe(const WorkerState& worker, absl::Time now, double stall_ms, double step_ms);

// How much of max_tokens requests use.
class OutputLengths {
 public:
  void Observe(int32_t most, int32_t actual);
  // Of one sample; between 1 and `most`.
  int32_t Expected(int32_t most, bool ignore_eos) const;

 private:
  double ratio_ = 1;  // moving mean of actual / most
};

// How much longer requests wait in the queue than was forecast as they came: what the model of the
// cluster leaves out, such as decode workers without room, or a machine that is busy with something
// else. Under overload the queue grows until forecasts reach the objective, so with a factor that
// were right in the mean, half of those let in would miss: it covers nearly all.
class WaitError {
 public:
  void Observe(double forecast_ms, double actual_ms);
  // Of a forecast wait; at least 1.
  double factor() const { return factor_; }

 private:
  double factor_ = 1;  // tracks a quantile of actual / forecast
};

}  // namespace baton::router
