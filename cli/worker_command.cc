#include "cli/worker_command.h"

#include <cstdio>
#include <string>

#include "absl/strings/str_cat.h"
#include "cli/child_process.h"
#include "cli/signals.h"
#include "cli/tls_settings.h"
#include "cli/version.h"
#include "cli/worker_settings.h"
#include "common/check.h"
#include "common/clock.h"
#include "common/metrics.h"
#include "decode_worker/decode_worker.h"
#include "prefill_worker/prefill_worker.h"
#include "worker/placement.h"
#include "worker/startup_table.h"

namespace baton {
namespace {

constexpr absl::Duration kPoll = absl::Milliseconds(200);

WorkerRole ParseRole(const std::string& role) {
  if (role == "prefill") return WorkerRole::kPrefill;
  if (role == "decode") return WorkerRole::kDecode;
  return WorkerRole::kBoth;
}

class WorkerCommand final : public Command {
 public:
  std::string name() const override { return "worker"; }
  std::string summary() const override { return "Run one worker: prefill, decode or both"; }
  std::string footer() const override {
    return "Example: a decode worker that a router finds at port 9100\n"
           "  baton worker --role decode --model models/demo --control-port 9100\n";
  }

  void Describe(ConfigSchema& schema) override {
    schema.AddChoice("role", &role_, {"prefill", "decode", "both"},
                     "prefill computes prompts, decode generates, both does all in one place");
    schema.AddString("id", &id_, "Name in logs and metrics (default: the role)");
    AddEngineSettings(schema, &engine_);
    schema.AddString("host", &host_, "Address of the control port");
    schema.AddInt("control_port", &control_port_, 0, 65535, "gRPC port for routers (0: any)");
    schema.AddInt("admin_port", &admin_port_, -1, 65535,
                  "HTTP port for /metrics and health (0: any, -1: none)");
    schema.AddString("kv.host", &kv_host_, "Address that KV is received at");
    schema.AddInt("kv.port", &kv_port_, 0, 65535, "Port that KV is received at (0: any)");
    schema.AddDuration("kv.peer_timeout", &kv_peer_timeout_, absl::Milliseconds(100),
                       absl::Minutes(5), "Silence after which a KV peer counts as dead");
    schema.AddString("cpus", &cpus_,
                     "CPUs to pin the compute threads to, one each, as 0-3,8 (default: not "
                     "pinned). Sets threads where that is not given");
    schema.AddInt("numa_node", &numa_node_, -1, kMaxNumaNode,
                  "NUMA node whose CPUs and memory the worker keeps to (-1: any)");
    schema.AddDuration("drain_timeout", &drain_timeout_, absl::Seconds(1), absl::Hours(1),
                       "Longest wait for running requests after SIGTERM");
    AddControlTlsSettings(schema, &control_tls_);
    schema.AddString("admin_host", &admin_host_, "Address of the admin port (default: host)");
    schema.AddBool(
        "trusted_network", &trusted_network_,
        "Allow KV and the admin port, which have no TLS, an address other than loopback");
    schema.AddBool("insecure", &insecure_,
                   "Allow all ports an address other than loopback without TLS");
    schema.AddInt("ready_fd", &ready_fd_, -1, 1 << 20,
                  "Descriptor to report ports and readiness to (used by baton up)");
    AddLogSettings(schema, &log_);
  }

  absl::Status Validate() const override {
    RETURN_IF_ERROR(ValidateEngineSettings(engine_));
    RETURN_IF_ERROR(ResolveSettings().status());
    RETURN_IF_ERROR(ValidateControlTls(control_tls_));
    RETURN_IF_ERROR(
        CheckLoopback("host", host_, insecure_ || control_tls_.any(),
                      "give --control-tls-cert, -key and -ca, or add --insecure if the network is "
                      "trusted"));
    const bool trusted = insecure_ || trusted_network_;
    const std::string remedy =
        "it has no TLS: add --trusted-network if nobody else is on that network";
    if (admin_port_ >= 0) {
      RETURN_IF_ERROR(CheckLoopback("admin_host", AdminHost(), trusted, remedy));
    }
    return CheckLoopback("kv.host", kv_host_, trusted, remedy);
  }

  absl::StatusOr<int> Run() override {
    // Before there is any other thread: all of them are placed, and all that they allocate.
    ASSIGN_OR_RETURN(const Placement placement, ResolveSettings());
    RETURN_IF_ERROR(ApplyPlacement(placement));
    SignalWaiter signals;
    const MonotonicClock clock;
    WorkerOptions options = ToWorkerOptions(engine_);
    options.role = ParseRole(role_);
    options.id = id_.empty() ? role_ : id_;
    options.version = kVersion;
    options.host = host_;
    options.control_port = control_port_;
    options.control_tls = control_tls_;
    options.admin_host = AdminHost();
    options.admin_port = admin_port_;
    options.kv_host = kv_host_;
    options.kv_port = kv_port_;
    options.kv_peer_timeout = kv_peer_timeout_;
    options.engine.model.num_threads = placement.threads;
    options.engine.model.pin_cpus = placement.pin_cpus;
    options.placement = DescribePlacement(placement);
    Logger log(options.id, log_.ToLevel(), log_.ToFormat());
    MetricRegistry metrics(MetricLabels{{"worker", options.id}});
    auto started = options.role == WorkerRole::kPrefill
                       ? StartPrefillWorker(options, clock, log, metrics)
                       : StartDecodeWorker(options, clock, log, metrics);
    if (!started.ok()) return started.status();
    WorkerProcess& worker = **started;
    if (log_.ToLevel() < LogLevel::kError) {
      std::fputs(RenderStartupTable(worker.startup_table()).c_str(), stderr);
    }
    ReadyReporter(ready_fd_).Report(
        absl::StrCat("listening ", worker.control_port(), " ", worker.admin_port()));
    return Serve(worker, signals, log);
  }

 private:
  absl::StatusOr<Placement> ResolveSettings() const {
    MachineCpus machine;
    if (!cpus_.empty() || numa_node_ >= 0) {
      ASSIGN_OR_RETURN(machine, ReadMachineCpus());
    }
    return ResolvePlacement({.cpus = cpus_,
                             .numa_node = numa_node_,
                             .threads = engine_.threads,
                             .threads_set = IsSet("threads")},
                            machine);
  }

  const std::string& AdminHost() const { return admin_host_.empty() ? host_ : admin_host_; }

  // Until a signal or a router drains it. A second signal ends at once.
  absl::StatusOr<int> Serve(WorkerProcess& worker, SignalWaiter& signals, Logger& log) const {
    absl::Status done = worker.WaitUntilDone(absl::ZeroDuration());
    while (absl::IsDeadlineExceeded(done)) {
      if (signals.Wait(kPoll) != 0) {
        log.Info("draining", {{"timeout", absl::FormatDuration(drain_timeout_)}});
        worker.RequestDrain();
        return Drained(worker, signals, log);
      }
      done = worker.WaitUntilDone(absl::ZeroDuration());
    }
    RETURN_IF_ERROR(done);
    return 0;
  }

  absl::StatusOr<int> Drained(WorkerProcess& worker, SignalWaiter& signals, Logger& log) const {
    const MonotonicClock clock;
    const absl::Time deadline = clock.Now() + drain_timeout_;
    absl::Status done = worker.WaitUntilDone(absl::ZeroDuration());
    while (absl::IsDeadlineExceeded(done)) {
      if (clock.Now() > deadline || signals.Wait(kPoll) != 0) {
        log.Warning("stopping with requests still running");
        return 1;
      }
      done = worker.WaitUntilDone(absl::ZeroDuration());
    }
    RETURN_IF_ERROR(done);
    log.Info("drained");
    return 0;
  }

  std::string role_ = "both";
  std::string id_;
  EngineSettings engine_;
  std::string host_ = "127.0.0.1";
  int32_t control_port_ = 0;
  int32_t admin_port_ = 0;
  std::string kv_host_ = "127.0.0.1";
  int32_t kv_port_ = 0;
  absl::Duration kv_peer_timeout_ = absl::Seconds(3);
  std::string cpus_;
  int32_t numa_node_ = -1;
  absl::Duration drain_timeout_ = absl::Seconds(60);
  TlsFiles control_tls_;
  std::string admin_host_;
  bool trusted_network_ = false;
  bool insecure_ = false;
  int32_t ready_fd_ = -1;
  LogSettings log_;
};

}  // namespace

std::unique_ptr<Command> MakeWorkerCommand() { return std::make_unique<WorkerCommand>(); }

}  // namespace baton
