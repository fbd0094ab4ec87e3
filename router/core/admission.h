// Whether a new request is let in: refused at once is better than missed after queueing, for the
// client, who may go elsewhere, and for those whose capacity it would have used.
//
// What is judged is the request's own forecast: its TTFT behind the queue as it is, and the decode
// step at the time when it would begin to decode, with what is in prefill and in the queue by then
// decoding too. A judge of the load of the moment admits everything while prompts are still on
// their way, then nothing, and so on: the oscillation that Mooncake describes (FAST'25, §7.3).
#pragma once

#include <limits>
#include <string>

#include "absl/time/time.h"
#include "router/core/placement.h"
#include "router/core/slo.h"
#include "router/core/verdict.h"

namespace baton::router {

enum class AdmissionMode { kOff, kPredict };

struct AdmissionOptions {
  AdmissionMode mode = AdmissionMode::kPredict;
  // A TTFT forecast is refused above this times its objective. Under overload the queue grows until
  // forecasts reach this line, so above 1 it fills with requests that miss
  // (tests/unit/sim/admission_sim_test.cc). TPOT has no such factor: a batch is shared, and one
  // request too many makes all of it miss.
  double slack = 0.9;
  // What is forecast to go as on an idle cluster, up to this factor, is let in all the same.
  double idle_tolerance = 1.1;
  // An objective is impossible if this share of the uncontended prediction exceeds it.
  double floor_share = 0.9;
  // On a cluster that does nothing, only if it exceeds it this many times more. Such a request
  // costs nobody anything, and its steps correct the prediction: without them, a worker that
  // measured its steps on a busy machine would be predicted to miss, and never run one, for ever.
  double idle_reach = 3;
  // How long classes that are shed first stay out after one that is kept longer would have missed.
  absl::Duration press = absl::Seconds(2);
};

struct AdmissionQuestion {
  SloTarget slo;
  std::string slo_class;
  double waited_ms = 0;   // since its arrival
  double timeout_ms = 0;  // from its arrival
  int64_t prompt_tokens = 0;
  int32_t most_output = 1;  // with one token there is no TPOT
  bool idle = false;        // no other request is open
  // Of what would go behind it in the queue: how much later each could start and still be in time.
  double behind_ms = std::numeric_limits<double>::infinity();
  double prefill_ms = 0;  // of the queue's time
  Forecast forecast;
};

struct AdmissionAnswer {
  Verdict verdict = Verdict::kAdmit;
  std::string message;         // unless admitted
  absl::Duration retry_after;  // when the forecast would be good enough, if nothing else came
};

// Pure. REQUIRES: forecast.known.
AdmissionAnswer Judge(const AdmissionOptions& options, const AdmissionQuestion& question);

}  // namespace baton::router
