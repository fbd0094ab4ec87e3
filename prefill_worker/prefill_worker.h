// Starts a prefill worker: the entry that the executable calls.
#pragma once

#include <memory>

#include "absl/status/statusor.h"
#include "common/clock.h"
#include "common/log.h"
#include "common/metrics.h"
#include "worker/worker_process.h"

namespace baton {

// Listens, loads the model, then serves. Returns once it is ready; /readyz on the admin port
// follows the loading meanwhile. `options.role` must be kPrefill. The references must outlive the
// worker. Errors name the field, file or port at fault.
absl::StatusOr<std::unique_ptr<WorkerProcess>> StartPrefillWorker(const WorkerOptions& options,
                                                                  const Clock& clock, Logger& log,
                                                                  MetricRegistry& metrics);

}  // namespace baton
