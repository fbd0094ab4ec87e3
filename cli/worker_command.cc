#include "cli/worker_command.h"

#include <unistd.h>

#include <algorithm>
#include <cstdio>
#include <memory>
#include <optional>
#include <span>
#include <string>
#include <utility>
#include <vector>

#include "absl/strings/str_cat.h"
#include "cli/child_process.h"
#include "cli/compute_device.h"
#include "cli/rank_command.h"
#include "cli/rank_endpoint.h"
#include "cli/rank_group.h"
#include "cli/rank_watch.h"
#include "cli/signals.h"
#include "cli/tls_settings.h"
#include "cli/version.h"
#include "cli/worker_settings.h"
#include "common/check.h"
#include "common/clock.h"
#include "common/cpu_list.h"
#include "common/metrics.h"
#include "decode_worker/decode_worker.h"
#include "prefill_worker/prefill_worker.h"
#include "worker/placement.h"
#include "worker/startup_table.h"

namespace baton {
namespace {

constexpr absl::Duration kPoll = absl::Milliseconds(200);
// For whoever can say more of a rank that has ended, before the process ends without it.
constexpr absl::Duration kStartPatience = absl::Seconds(5);

// One line that is written again and again.
void DrawLoading(const LoadPoint& point) {
  const bool done = point.done_bytes >= point.total_bytes;
  std::fprintf(stderr, "\r\033[K%s", done ? "" : point.Bar().c_str());
}

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
    AddPlacementSettings(schema, &placement_);
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
    RETURN_IF_ERROR(PlacementsOfRanks().status());
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
    ASSIGN_OR_RETURN(const std::vector<PlacementFlags> placements, PlacementsOfRanks());
    ASSIGN_OR_RETURN(std::unique_ptr<RankGroup> ranks, StartRanks(placements));
    ASSIGN_OR_RETURN(const Placement placement, Resolve(placements[0]));
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
    if (isatty(STDERR_FILENO) == 1) options.show_loading = DrawLoading;
    if (ranks != nullptr) {
      ASSIGN_OR_RETURN(const absl::Duration spin,
                       RankSpinTime(engine_.tensor_parallel, placement.threads));
      options.engine.model.connect = [endpoint = ranks->Endpoint(spin)] {
        return ConnectRank(endpoint);
      };
      options.engine.ranks = ranks->TakeLinks();
    }
    Logger log(options.id, log_.ToLevel(), log_.ToFormat());
    MetricRegistry metrics(MetricLabels{{"worker", options.id}});
    const auto started = [&] {
      std::optional<RankWatch> watch;
      if (ranks != nullptr) {
        watch.emplace([&] { return ranks->CheckAlive(); }, kStartPatience,
                      [&](const absl::Status& why) { EndGroup(why, log); });
      }
      return options.role == WorkerRole::kPrefill ? StartPrefillWorker(options, clock, log, metrics)
                                                  : StartDecodeWorker(options, clock, log, metrics);
    }();
    if (!started.ok()) return started.status();
    if (ranks != nullptr) ranks->Connected();
    WorkerProcess& worker = **started;
    if (log_.ToLevel() < LogLevel::kError) {
      std::fputs(RenderStartupTable(worker.startup_table()).c_str(), stderr);
    }
    ReadyReporter(ready_fd_).Report(
        absl::StrCat("listening ", worker.control_port(), " ", worker.admin_port()));
    return Serve(worker, ranks.get(), signals, log);
  }

 private:
  absl::StatusOr<Placement> Resolve(const PlacementFlags& flags) const {
    return ResolvePlacementOf(flags, engine_.threads, IsSet("threads"));
  }

  // One for each process; checked. Each gets its part of the CPUs, in order.
  absl::StatusOr<std::vector<PlacementFlags>> PlacementsOfRanks() const {
    const auto ranks = static_cast<size_t>(engine_.tensor_parallel);
    std::vector<PlacementFlags> placements(ranks, placement_);
    if (ranks == 1) {
      RETURN_IF_ERROR(Resolve(placement_).status());
      return placements;
    }
    const absl::StatusOr<std::vector<int32_t>> parsed = ParseCpuList(placement_.cpus);
    if (!parsed.ok()) {
      return absl::InvalidArgumentError(absl::StrCat("cpus: ", parsed.status().message()));
    }
    const std::span<const int32_t> cpus = *parsed;
    if (cpus.size() % ranks != 0) {
      return absl::InvalidArgumentError(absl::StrCat("cpus: ", cpus.size(), " CPUs for ", ranks,
                                                     " processes; give as many to each"));
    }
    const size_t each = cpus.size() / ranks;
    for (size_t rank = 0; rank < ranks; ++rank) {
      placements[rank].cpus = FormatCpuList(cpus.subspan(rank * each, each));
      RETURN_IF_ERROR(Resolve(placements[rank]).status());
    }
    return placements;
  }

  // Null for a worker of one process.
  absl::StatusOr<std::unique_ptr<RankGroup>> StartRanks(
      const std::vector<PlacementFlags>& placements) {
    if (placements.size() == 1) return nullptr;
    const std::unique_ptr<Command> rank = MakeRankCommand();
    rank->Describe(rank->schema());
    std::vector<std::string> flags = FlagsForChild(schema(), rank->schema());
    std::erase_if(flags, [](const std::string& flag) {
      return flag.starts_with("--cpus=") || flag.starts_with("--ready-fd=");
    });
    std::vector<std::vector<std::string>> arguments;
    for (size_t i = 1; i < placements.size(); ++i) {
      arguments.push_back(flags);
      if (!placements[i].cpus.empty()) {
        arguments.back().push_back(absl::StrCat("--cpus=", placements[i].cpus));
      }
    }
    return RankGroup::Start(arguments, engine_.tensor_parallel_transport == "gloo");
  }

  const std::string& AdminHost() const { return admin_host_.empty() ? host_ : admin_host_; }

  static void EndGroup(const absl::Status& why, Logger& log) {
    log.Error("the group is broken", {{"why", std::string(why.message())}});
    _exit(1);
  }

  // The step may wait for a rank that has gone, for as long as a collective operation is given, or
  // for a device for ever: nothing is joined, the process ends as if it had been killed, which
  // routers and peers bear.
  void EndIfItCannotGoOn(const WorkerProcess& worker, const RankGroup* ranks, Logger& log) const {
    const absl::Status alive = ranks == nullptr ? absl::OkStatus() : ranks->CheckAlive();
    if (!alive.ok()) EndGroup(alive, log);
    const absl::Duration timeout = StepTimeoutOf(engine_);
    const auto end_if_hung = [&](const char* event, absl::Duration age) {
      if (age <= timeout) return;
      log.Error(event, {{"for", absl::FormatDuration(age)},
                        {"step_timeout", absl::FormatDuration(timeout)}});
      _exit(1);
    };
    end_if_hung("a step hangs", worker.StepAge());
    end_if_hung("a KV copy hangs", worker.CopyAge());
  }

  // Until a signal or a router drains it. A second signal ends at once.
  // `ranks` may be null.
  absl::StatusOr<int> Serve(WorkerProcess& worker, const RankGroup* ranks, SignalWaiter& signals,
                            Logger& log) const {
    absl::Status done = worker.WaitUntilDone(absl::ZeroDuration());
    while (absl::IsDeadlineExceeded(done)) {
      if (signals.Wait(kPoll) != 0) {
        log.Info("draining", {{"timeout", absl::FormatDuration(drain_timeout_)}});
        worker.RequestDrain();
        return Drained(worker, ranks, signals, log);
      }
      EndIfItCannotGoOn(worker, ranks, log);
      done = worker.WaitUntilDone(absl::ZeroDuration());
    }
    return Ended(done, log);
  }

  absl::StatusOr<int> Drained(WorkerProcess& worker, const RankGroup* ranks, SignalWaiter& signals,
                              Logger& log) const {
    const MonotonicClock clock;
    const absl::Time deadline = clock.Now() + drain_timeout_;
    absl::Status done = worker.WaitUntilDone(absl::ZeroDuration());
    while (absl::IsDeadlineExceeded(done)) {
      if (clock.Now() > deadline || signals.Wait(kPoll) != 0) {
        log.Warning("stopping with requests still running");
        // A step or a copy that hangs would be waited for.
        if (MayHaveBegunAhead() || std::max(worker.StepAge(), worker.CopyAge()) > kPoll) _exit(1);
        return 1;
      }
      EndIfItCannotGoOn(worker, ranks, log);
      done = worker.WaitUntilDone(absl::ZeroDuration());
    }
    if (done.ok()) log.Info("drained");
    return Ended(done, log);
  }

  // A device may have begun a step that nobody waits for any more, and that has no end where a rank
  // or the device itself has gone: then the way out must not wait for it either.
  bool MayHaveBegunAhead() const {
    const absl::StatusOr<ComputeDevice> device = ParseComputeDevice(engine_.device);
    return device.ok() && device->cuda;
  }
  absl::StatusOr<int> Ended(const absl::Status& done, Logger& log) const {
    if (done.ok()) return 0;
    if (!MayHaveBegunAhead()) return done;
    log.Error("the worker ends", {{"why", std::string(done.message())}});
    _exit(1);
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
  PlacementFlags placement_;
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
