#include "prefill_worker/prefill_worker.h"

#include <utility>

#include "common/check.h"
#include "prefill_worker/prefill_role.h"
#include "worker/kv_transport.h"
#include "worker/worker_shell.h"

namespace baton {

absl::StatusOr<std::unique_ptr<WorkerProcess>> StartPrefillWorker(const WorkerOptions& options,
                                                                  const Clock& clock, Logger& log,
                                                                  MetricRegistry& metrics) {
  BATON_CHECK(options.role == WorkerRole::kPrefill);
  WorkerParts parts{.load_engine = options.load_engine};
  parts.make_role = [](const RoleContext& context) -> absl::StatusOr<MadeRole> {
    ASSIGN_OR_RETURN(KvTransport transport,
                     MakeKvTransport(context.options.kv_transport, context.options.kv_buffer_device,
                                     context.engine.kv_memory().staging));
    return MakePrefillRole(context, std::move(transport));
  };
  return StartWorker(options, std::move(parts), {clock, log, metrics});
}

}  // namespace baton
