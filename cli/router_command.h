// `baton router`: the process that clients talk to.
#pragma once

#include <memory>
#include <string>
#include <vector>

#include "absl/status/status.h"
#include "absl/time/time.h"
#include "cli/command.h"
#include "common/rpc/tls_files.h"
#include "router/core/admission.h"

namespace baton {

// The settings of a router that `baton up` has too. `model` is bound by the commands themselves.
struct RouterSettings {
  std::string host = "127.0.0.1";
  int32_t port = 8000;
  int32_t grpc_port = 0;
  double slo_ttft_ms = 2000;
  double slo_tpot_ms = 200;
  std::vector<std::string>
      slo_classes;  // each "name=chat;ttft_ms=500;…", see router/link/slo_config.h
  std::string admission = "predict";
  double admission_slack = router::AdmissionOptions{}.slack;
  std::string conditional_disaggregation = "auto";
  int32_t max_queued_requests = 4096;
  int64_t max_queued_bytes = int64_t{256} << 20;
  int64_t max_tenant_bytes = int64_t{128} << 20;
  absl::Duration request_timeout = absl::Minutes(10);
  int64_t max_body_bytes = int64_t{16} << 20;
  int32_t max_connections = 16384;
  absl::Duration head_timeout = absl::Seconds(15);
  absl::Duration body_timeout = absl::Seconds(60);
  absl::Duration idle_timeout = absl::Seconds(75);
  absl::Duration write_timeout = absl::Seconds(10);
  int64_t max_output_bytes = int64_t{1} << 20;
  int64_t max_waiting_body_bytes = int64_t{256} << 20;
  std::string cors_origin;
  TlsFiles tls;          // HTTP and gRPC
  TlsFiles control_tls;  // towards workers
  std::string api_keys;  // a file; empty: everybody may call
  bool insecure = false;
};

void AddRouterSettings(ConfigSchema& schema, RouterSettings* settings);
absl::Status ValidateRouterSettings(const RouterSettings& settings);

std::unique_ptr<Command> MakeRouterCommand();

}  // namespace baton
