#include "router/link/start_router.h"

#include <grpc/grpc.h>

#include <set>

#include "absl/status/status.h"
#include "absl/strings/str_cat.h"
#include "common/check.h"
#include "router/link/router_loop.h"

namespace baton {
namespace {

absl::Status Positive(const char* name, absl::Duration value) {
  if (value > absl::ZeroDuration()) return absl::OkStatus();
  return absl::InvalidArgumentError(
      absl::StrCat(name, " is ", absl::FormatDuration(value), "; it must be positive"));
}

absl::Status Validate(const RouterOptions& options) {
  if (options.workers.empty()) {
    return absl::InvalidArgumentError("workers is empty; name each worker as host:port");
  }
  std::set<std::string> seen;
  for (const std::string& address : options.workers) {
    if (address.find(':') == std::string::npos) {
      return absl::InvalidArgumentError(
          absl::StrCat("workers entry \"", address, "\" is not host:port"));
    }
    if (!seen.insert(address).second) {
      return absl::InvalidArgumentError(absl::StrCat("workers names ", address, " twice"));
    }
  }
  RETURN_IF_ERROR(Positive("default_timeout", options.default_timeout));
  RETURN_IF_ERROR(Positive("reserve_timeout", options.reserve_timeout));
  RETURN_IF_ERROR(Positive("handoff_lease", options.handoff_lease));
  RETURN_IF_ERROR(Positive("no_worker_wait", options.no_worker_wait));
  RETURN_IF_ERROR(Positive("heartbeat", options.heartbeat));
  RETURN_IF_ERROR(Positive("worker_lease", options.worker_lease));
  RETURN_IF_ERROR(Positive("max_step_age", options.max_step_age));
  RETURN_IF_ERROR(Positive("reconnect_min", options.reconnect_min));
  RETURN_IF_ERROR(Positive("stats_interval", options.stats_interval));
  if (options.reconnect_max < options.reconnect_min) {
    return absl::InvalidArgumentError("reconnect_max is smaller than reconnect_min");
  }
  if (options.worker_lease < options.heartbeat * 2) {
    return absl::InvalidArgumentError("worker_lease must be at least two heartbeats");
  }
  if (options.missed_heartbeats < 1 || options.max_attempts < 1 ||
      options.max_queued_requests < 1 || options.max_queued_bytes < 1 ||
      options.max_tenant_bytes < 1) {
    return absl::InvalidArgumentError(
        "missed_heartbeats, max_attempts, max_queued_requests, max_queued_bytes and "
        "max_tenant_bytes must be at least 1");
  }
  if (!(options.slo_ttft_ms > 0) || !(options.slo_tpot_ms > 0)) {
    return absl::InvalidArgumentError("slo_ttft_ms and slo_tpot_ms must be positive");
  }
  if (!(options.admission.slack > 0) || !(options.admission.floor_share > 0)) {
    return absl::InvalidArgumentError("admission.slack and admission.floor_share must be positive");
  }
  std::set<std::string> names;
  for (const router::SloClass& slo_class : options.slo_classes) {
    if (slo_class.name.empty() || !names.insert(slo_class.name).second) {
      return absl::InvalidArgumentError(
          absl::StrCat("slo_classes: the name \"", slo_class.name, "\" is empty or there twice"));
    }
    if (!(slo_class.target.ttft_ms > 0) || !(slo_class.target.tpot_ms > 0) ||
        !(slo_class.weight > 0)) {
      return absl::InvalidArgumentError(absl::StrCat(
          "slo_classes: ttft_ms, tpot_ms and weight of \"", slo_class.name, "\" must be positive"));
    }
  }
  return absl::OkStatus();
}

}  // namespace

std::vector<router::SloClass> SloClassesOf(const RouterOptions& options) {
  std::vector<router::SloClass> classes = {
      {.name = "default", .target = {options.slo_ttft_ms, options.slo_tpot_ms}}};
  for (const router::SloClass& slo_class : options.slo_classes) {
    if (slo_class.name == classes[0].name) {
      classes[0] = slo_class;
    } else {
      classes.push_back(slo_class);
    }
  }
  return classes;
}

absl::StatusOr<std::unique_ptr<Router>> StartRouter(const RouterOptions& options,
                                                    const Tokenizer& tokenizer, const Clock& clock,
                                                    Logger& log, MetricRegistry& metrics) {
  RETURN_IF_ERROR(Validate(options));
  // Never undone: shutting the gRPC library down and starting it again within a process is not
  // reliable with gRPC 1.51 (a call on a new channel crashed in it under ThreadSanitizer).
  grpc_init();
  ASSIGN_OR_RETURN(auto credentials, ChannelCredentialsFrom(options.control_tls));
  return std::make_unique<router::RouterLoop>(
      options, router::RouterLoop::Parts{tokenizer, clock, log, metrics, std::move(credentials)});
}

}  // namespace baton
