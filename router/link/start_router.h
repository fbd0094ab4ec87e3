// The border between the executable and the router proper: options in, a running router out.
#pragma once

#include <cstdint>
#include <memory>
#include <string>
#include <vector>

#include "absl/status/statusor.h"
#include "absl/time/time.h"
#include "common/clock.h"
#include "common/log.h"
#include "common/metrics.h"
#include "common/rpc/tls_files.h"
#include "engine/tokenizer/tokenizer.h"
#include "router/completion_service.h"
#include "router/core/admission.h"
#include "router/core/slo.h"

namespace baton {

struct RouterOptions {
  std::string router_id = "router-0";
  std::vector<std::string> workers;  // "host:port" of each worker's control plane
  std::string model_name;            // what clients call it; empty: as the first worker says
  std::string model_root;            // directory or dummy:CONFIG, shown by /v1/models
  // The model's end tokens (generation_config.json); empty: the tokenizer's one.
  std::vector<TokenId> eos_tokens;

  // The class "default", for requests that name none. Requests may carry objectives of their own.
  double slo_ttft_ms = 2000;
  double slo_tpot_ms = 200;
  // Somebody chose the two: requests of the default class may be refused for them.
  bool slo_default_stated = true;
  // Further classes; one named "default" replaces the two above.
  std::vector<router::SloClass> slo_classes;

  router::AdmissionOptions admission;
  bool conditional_disaggregation = true;  // prompts may be prefilled on decode workers

  // Queue and time limits.
  int32_t max_queued_requests = 4096;
  int64_t max_queued_bytes = int64_t{256} << 20;
  int64_t max_tenant_bytes = int64_t{128} << 20;       // of one tenant in the queue
  absl::Duration default_timeout = absl::Minutes(10);  // for requests that bring none
  absl::Duration reserve_timeout = absl::Seconds(2);
  absl::Duration handoff_lease = absl::Seconds(60);
  absl::Duration no_worker_wait = absl::Seconds(4);
  int32_t max_attempts = 2;

  // Worker links. With `control_tls` both sides show a certificate of its authority.
  TlsFiles control_tls;
  absl::Duration heartbeat = absl::Seconds(1);
  int32_t missed_heartbeats = 3;
  absl::Duration worker_lease = absl::Seconds(10);  // a worker without our heartbeat aborts all
  absl::Duration max_step_age = absl::Minutes(1);
  absl::Duration reconnect_min = absl::Milliseconds(100);
  absl::Duration reconnect_max = absl::Seconds(1);

  absl::Duration stats_interval = absl::Seconds(10);
};

// The default class first, then the others in order.
std::vector<router::SloClass> SloClassesOf(const RouterOptions& options);

// A running router. Thread-safe. Destroying it fails what is open with kDraining, closes all links
// and joins its thread; no sink is called afterwards. For a clean end: Drain, WaitUntilIdle.
class Router : public CompletionService {
 public:
  // True once no request is open; false after `timeout`.
  virtual bool WaitUntilIdle(absl::Duration timeout) = 0;
};

// Returns at once; readiness() tells when workers have been found. The references must outlive the
// router. INVALID_ARGUMENT names the option at fault.
absl::StatusOr<std::unique_ptr<Router>> StartRouter(const RouterOptions& options,
                                                    const Tokenizer& tokenizer, const Clock& clock,
                                                    Logger& log, MetricRegistry& metrics);

}  // namespace baton
