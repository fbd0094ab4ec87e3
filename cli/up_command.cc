#include "cli/up_command.h"

#include <algorithm>
#include <cstdio>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

#include "absl/strings/str_cat.h"
#include "cli/compute_device.h"
#include "cli/local_cluster.h"
#include "cli/router_command.h"
#include "cli/worker_command.h"
#include "cli/worker_settings.h"
#include "common/check.h"
#include "router/http/http_server.h"
#include "worker/placement.h"

namespace baton {
namespace {

class UpCommand final : public Command {
 public:
  std::string name() const override { return "up"; }
  std::string summary() const override {
    return "Start a whole cluster on this machine: router and workers as child processes";
  }
  std::string footer() const override {
    return "Examples:\n"
           "  baton up --model models/demo --prefill 1 --decode 1 --port 8000\n"
           "  baton up --model models/demo --colocated --decode 2\n";
  }

  void Describe(ConfigSchema& schema) override {
    schema.AddInt("prefill", &prefill_, 0, 1024, "Number of prefill workers");
    schema.AddInt("decode", &decode_, 1, 1024,
                  "Number of decode workers (with --colocated: of workers that do both)");
    schema.AddBool("colocated", &colocated_, "Workers of role both instead of separate pools");
    AddEngineSettings(schema, &engine_);
    schema.AddInt("prefill_tensor_parallel", &prefill_tensor_parallel_, 0, kMaxRanks,
                  "tensor_parallel of the prefill workers (0: that of all)");
    schema.AddInt("decode_tensor_parallel", &decode_tensor_parallel_, 0, kMaxRanks,
                  "tensor_parallel of the decode workers (0: that of all)");
    schema.AddChoice("numa", &numa_, {"off", "auto"},
                     "auto: workers in turns on the NUMA nodes of this machine, each with its "
                     "threads and memory on one; no difference where there is one node");
    AddRouterSettings(schema, &router_);
    schema.AddDuration("drain_timeout", &drain_timeout_, absl::Seconds(1), absl::Hours(1),
                       "Longest wait for running requests after SIGTERM");
    AddLogSettings(schema, &log_);
  }

  absl::Status Validate() const override {
    ASSIGN_OR_RETURN(const std::vector<std::string> devices, DevicesOfAll());
    EngineSettings of_a_worker = engine_;
    of_a_worker.device = devices[0];
    of_a_worker.tensor_parallel =
        std::max({engine_.tensor_parallel, prefill_tensor_parallel_, decode_tensor_parallel_});
    RETURN_IF_ERROR(ValidateEngineSettings(of_a_worker));
    RETURN_IF_ERROR(ValidateDegrees(devices[0]));
    if (!colocated_ && prefill_ == 0) {
      return absl::InvalidArgumentError("prefill: 0 workers; give --prefill 1 or --colocated");
    }
    RETURN_IF_ERROR(NodesOfWorkers().status());
    return ValidateRouterSettings(router_);
  }

  absl::StatusOr<int> Run() override {
    SignalWaiter signals;
    Logger log("up", log_.ToLevel(), log_.ToFormat());
    // Before workers load for minutes.
    RETURN_IF_ERROR(CheckRouterAddress());
    ASSIGN_OR_RETURN(LocalClusterOptions options, ClusterOptions());
    auto started = LocalCluster::Start(std::move(options), signals, log);
    if (absl::IsCancelled(started.status())) return 0;
    if (!started.ok()) return started.status();
    LocalCluster& cluster = **started;
    std::printf("ready %s://%s:%d\n", router_.tls.any() ? "https" : "http", router_.host.c_str(),
                cluster.http_port());
    std::fflush(stdout);
    RETURN_IF_ERROR(cluster.SuperviseUntilSignal(signals));
    log.Info("draining");
    RETURN_IF_ERROR(cluster.Stop(signals));
    log.Info("stopped");
    return 0;
  }

 private:
  // The NUMA node of each worker; empty: they are not placed.
  absl::StatusOr<std::vector<int32_t>> NodesOfWorkers() const {
    if (numa_ == "off") return std::vector<int32_t>();
    ASSIGN_OR_RETURN(const MachineCpus machine, ReadMachineCpus());
    std::vector<int32_t> nodes = SpreadOverNodes(machine, NumWorkers());
    for (const int32_t node : nodes) {
      RETURN_IF_ERROR(
          ResolvePlacement({.numa_node = node, .threads = engine_.threads}, machine).status());
    }
    return nodes;
  }

  int32_t NumWorkers() const { return (colocated_ ? 0 : prefill_) + decode_; }
  absl::StatusOr<std::vector<std::string>> DevicesOfAll() const {
    return DevicesOfWorkers(engine_.device, NumWorkers());
  }
  // tensor_parallel of each worker.
  std::vector<int32_t> DegreesOfAll() const {
    const auto degree = [&](int32_t own) { return own > 0 ? own : engine_.tensor_parallel; };
    std::vector<int32_t> degrees;
    if (!colocated_)
      degrees.assign(static_cast<size_t>(prefill_), degree(prefill_tensor_parallel_));
    degrees.insert(degrees.end(), static_cast<size_t>(decode_), degree(decode_tensor_parallel_));
    return degrees;
  }
  // Sums over two GPUs have other last bits than of one: with batch_invariant no KV goes between.
  absl::Status ValidateDegrees(const std::string& device) const {
    const std::vector<int32_t> degrees = DegreesOfAll();
    if (!engine_.batch_invariant || device == "cpu" ||
        std::ranges::adjacent_find(degrees, std::ranges::not_equal_to()) == degrees.end()) {
      return absl::OkStatus();
    }
    return absl::InvalidArgumentError(absl::StrCat(
        "batch_invariant with prefill workers of ", degrees.front(), " GPUs and decode workers of ",
        degrees.back(), ", whose answers differ in the last bits; give both as many"));
  }
  // Those of one GPU share what one worker would have.
  double DeviceMemoryOf(const std::vector<std::string>& devices, size_t worker) const {
    if (IsSet("device_memory")) return engine_.device_memory;
    return engine_.device_memory / WorkersOnGpusOf(worker, devices, DegreesOfAll());
  }

  absl::Status CheckRouterAddress() const {
    const auto check = [&](std::string_view protocol, int32_t port) {
      return CheckCanListen(protocol, router_.host, static_cast<uint16_t>(port));
    };
    RETURN_IF_ERROR(check("HTTP", router_.port));
    return check("gRPC", router_.grpc_port);
  }

  // Each child gets those of our settings that it has too.
  absl::StatusOr<LocalClusterOptions> ClusterOptions() {
    const std::unique_ptr<Command> worker = MakeWorkerCommand();
    worker->Describe(worker->schema());
    const std::unique_ptr<Command> router = MakeRouterCommand();
    router->Describe(router->schema());
    LocalClusterOptions options;
    options.drain_timeout = drain_timeout_;
    std::vector<std::string> worker_flags = FlagsForChild(schema(), worker->schema());
    // The router's address is not the workers': they stay on loopback.
    std::erase_if(worker_flags, [](const std::string& flag) {
      return flag.starts_with("--host=") || flag.starts_with("--device=") ||
             flag.starts_with("--device-memory=");
    });
    ASSIGN_OR_RETURN(const std::vector<std::string> devices, DevicesOfAll());
    ASSIGN_OR_RETURN(const std::vector<int32_t> nodes, NodesOfWorkers());
    const auto add = [&](const std::string& role, int32_t count, int32_t tensor_parallel) {
      for (int32_t i = 0; i < count; ++i) {
        std::vector<std::string> arguments = worker_flags;
        arguments.push_back(absl::StrCat("--role=", role));
        if (tensor_parallel > 0) {
          std::erase_if(arguments, [](const std::string& flag) {
            return flag.starts_with("--tensor-parallel=");
          });
          arguments.push_back(absl::StrCat("--tensor-parallel=", tensor_parallel));
        }
        const size_t index = options.workers.size();
        std::vector<size_t> after;
        if (!nodes.empty()) arguments.push_back(absl::StrCat("--numa-node=", nodes[index]));
        if (devices[index] != "cpu") {
          arguments.push_back(absl::StrCat("--device=", devices[index]));
          arguments.push_back(absl::StrCat("--device-memory=", DeviceMemoryOf(devices, index)));
          after = WorkersBeforeOnGpusOf(index, devices, DegreesOfAll());
        }
        options.workers.push_back(
            {.id = absl::StrCat(role, "-", i), .arguments = arguments, .after = after});
      }
    };
    if (!colocated_) add("prefill", prefill_, prefill_tensor_parallel_);
    add(colocated_ ? "both" : "decode", decode_, decode_tensor_parallel_);
    options.router_arguments = FlagsForChild(schema(), router->schema());
    return options;
  }

  int32_t prefill_ = 1;
  int32_t decode_ = 1;
  bool colocated_ = false;
  int32_t prefill_tensor_parallel_ = 0;
  int32_t decode_tensor_parallel_ = 0;
  EngineSettings engine_;
  std::string numa_ = "off";
  RouterSettings router_;
  absl::Duration drain_timeout_ = absl::Seconds(60);
  LogSettings log_;
};

}  // namespace

std::unique_ptr<Command> MakeUpCommand() { return std::make_unique<UpCommand>(); }

}  // namespace baton
