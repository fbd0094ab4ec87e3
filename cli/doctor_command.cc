#include "cli/doctor_command.h"

#include <sys/resource.h>
#include <sys/statvfs.h>

#include <cstdio>
#include <fstream>
#include <string>
#include <thread>
#include <vector>

#include "absl/strings/str_cat.h"
#include "absl/strings/str_format.h"
#include "cli/front_model.h"
#include "cli/version.h"
#include "common/check.h"
#include "common/clock.h"
#include "common/cpu_list.h"
#include "common/numa.h"
#include "engine/kernels/isa.h"
#include "engine/runtime/cuda/cuda_probe.h"
#include "kvtransfer/probe.h"
#include "worker/placement.h"

namespace baton {
namespace {

constexpr double kGib = 1024.0 * 1024.0 * 1024.0;

// One line of the report: a value, and where it matters what would mend it.
void Row(std::string_view name, const std::string& value, const std::string& advice = "") {
  std::printf("  %-12s %s\n", std::string(name).c_str(), value.c_str());
  if (!advice.empty()) std::printf("  %-12s   -> %s\n", "", advice.c_str());
}

double AvailableMemoryGib() {
  std::ifstream file("/proc/meminfo");
  for (std::string key; file >> key; file.ignore(256, '\n')) {
    int64_t kib = 0;
    if (key == "MemAvailable:" && file >> kib) return static_cast<double>(kib) * 1024 / kGib;
  }
  return 0;
}

// The nodes that workers can be kept to.
void ReportNodes() {
  const absl::StatusOr<MachineCpus> machine = ReadMachineCpus();
  if (!machine.ok()) {
    Row("NUMA", "not known: " + std::string(machine.status().message()));
    return;
  }
  const size_t usable = UsableNodes(machine->nodes, machine->allowed).size();
  for (const NumaNode& node : machine->nodes) {
    const std::vector<int32_t> cpus = CpusOnNode(node, machine->allowed);
    const bool some = cpus.size() < node.cpus.size();
    Row(absl::StrCat("NUMA node ", node.id),
        absl::StrCat(
            node.cpus.empty() ? "no CPUs" : "CPUs " + FormatCpuList(node.cpus),
            some
                ? absl::StrCat(" (this process: ", cpus.empty() ? "none" : FormatCpuList(cpus), ")")
                : "",
            absl::StrFormat(", %.1f GiB", static_cast<double>(node.memory_bytes) / kGib)));
  }
  if (machine->nodes.empty()) Row("NUMA", "the kernel shows no nodes");
  if (usable > 1) {
    Row("", absl::StrCat(usable, " nodes"),
        "baton up --numa auto, or baton worker --numa-node N, keeps a worker's threads and memory "
        "on one");
  }
}

void ReportMachine() {
  std::printf("machine\n");
  const absl::StatusOr<Isa> isa = BestIsa();
  Row("cores", absl::StrCat(std::thread::hardware_concurrency()));
  if (isa.ok()) {
    Row("kernels", std::string(IsaName(*isa)),
        *isa == Isa::kAvx512Bf16 ? ""
                                 : "slower than a CPU with AVX-512 BF16 (Zen 4, Sapphire "
                                   "Rapids and later)");
  } else {
    Row("kernels", "none", std::string(isa.status().message()));
  }
  Row("memory", absl::StrFormat("%.1f GiB available", AvailableMemoryGib()));
  ReportNodes();
  struct statvfs shm {};
  if (statvfs("/dev/shm", &shm) == 0) {
    const double free_gib =
        static_cast<double>(shm.f_bavail) * static_cast<double>(shm.f_frsize) / kGib;
    Row("/dev/shm", absl::StrFormat("%.1f GiB free", free_gib),
        free_gib < 0.25 ? "workers on one machine share memory here: mount -o remount,size=1G "
                          "/dev/shm (a container: --shm-size=1g), or use --kv-transport tcp"
                        : "");
  } else {
    Row("/dev/shm", "not there", "workers on this machine will use TCP between them");
  }
  rlimit files{};
  getrlimit(RLIMIT_NOFILE, &files);
  Row("open files", absl::StrCat(files.rlim_cur),
      files.rlim_cur < 4096 ? "a router with many streams needs more: ulimit -n 65536" : "");
}

// False when no transport works at all.
bool ReportTransports() {
  const MonotonicClock clock;
  std::printf(
      "\nKV transports (UCX %s, built against %s; measured here: 1 MiB messages between two "
      "threads)\n",
      UcxVersion().c_str(), UcxBuildVersion().c_str());
  bool any = false;
  for (const TransportProbe& probe : ProbeTransports(clock)) {
    const std::string_view name = TransportChoiceName(probe.kind);
    if (probe.usable) {
      any = true;
      Row(name, absl::StrFormat("%.1f GB/s", probe.gigabytes_per_second));
    } else {
      Row(name, "not usable: " + probe.problem);
    }
  }
  if (!any) Row("", "none is usable", "check that libucx0 is installed and loopback is up");
  return any;
}

// What `kv.buffer_device` auto comes to.
void ReportKvPath(const CudaProbe& probe, const UcxCudaTransports& reaching) {
  const std::string through_host = absl::StrFormat(
      "through pinned host memory: %.1f GB/s out, %.1f GB/s in", probe.to_host, probe.from_host);
  if (probe.memory == MemoryKind::kHost) {
    Row("  KV path", "from and to the device's memory, which is the host's");
    Row("", "with kv.buffer_device cpu " + through_host);
  } else if (reaching.copy) {
    Row("  KV path",
        absl::StrCat("from GPU to GPU by UCX: cuda_copy", reaching.ipc ? ", cuda_ipc" : "",
                     reaching.gdr ? ", gdr_copy" : ""),
        reaching.ipc ? ""
                     : "without cuda_ipc UCX copies through the host: look at its installation");
    Row("", "with kv.buffer_device cpu " + through_host);
  } else {
    Row("  KV path", through_host,
        "from GPU to GPU with a UCX that has CUDA: docs/operations.md, GPUs");
  }
}

void ReportDevices() {
  std::printf("\nGPUs (measured here: copies of 64 MiB, pinned host memory)\n");
  const absl::StatusOr<std::vector<CudaProbe>> probes = ProbeCudaDevices();
  if (!probes.ok()) return Row("cuda", "none: " + std::string(probes.status().message()));
  const UcxCudaTransports reaching = FindUcxCudaTransports();
  for (const CudaProbe& probe : *probes) {
    Row(absl::StrCat("cuda:", probe.device),
        absl::StrFormat("%s, compute capability %d.%d, %.1f of %.1f GiB free", probe.name,
                        probe.compute_capability / 10, probe.compute_capability % 10,
                        static_cast<double>(probe.free_bytes) / kGib,
                        static_cast<double>(probe.memory_bytes) / kGib));
    if (!probe.problem.empty()) {
      Row("", "not usable: " + probe.problem);
      continue;
    }
    ReportKvPath(probe, reaching);
    Row("  its copies", absl::StrFormat("%.0f GB/s within", probe.within));
    if (probe.peer >= 0) {
      Row("",
          absl::StrFormat("%.1f GB/s from cuda:%d, %s", probe.from_peer, probe.peer,
                          probe.peer_direct ? "direct" : "through the host"),
          probe.peer_direct ? "" : "KV of a worker on both comes together in host memory");
    }
  }
}

absl::Status ReportModel(const std::string& path) {
  std::printf("\nmodel\n");
  ASSIGN_OR_RETURN(const FrontModel model, LoadFrontModel(path, ""));
  Row("name", model.name);
  Row("vocabulary", absl::StrCat(model.tokenizer->vocab_size(), " tokens"));
  Row("chat", model.chat_template ? "template found" : "no template",
      model.chat_template ? "" : "/v1/chat/completions will answer 400; add chat_template.jinja");
  return absl::OkStatus();
}

class DoctorCommand final : public Command {
 public:
  std::string name() const override { return "doctor"; }
  std::string summary() const override {
    return "Check this machine: instructions, memory, transports, GPUs and their speed";
  }
  void Describe(ConfigSchema& schema) override {
    schema.AddString("model", &model_, "Also check the tokenizer and template of this model");
  }
  absl::StatusOr<int> Run() override {
    std::printf("baton %s\n\n", kVersion);
    ReportMachine();
    const bool transports = ReportTransports();
    ReportDevices();
    if (!model_.empty()) RETURN_IF_ERROR(ReportModel(model_));
    return transports ? 0 : 1;
  }

 private:
  std::string model_;
};

}  // namespace

std::unique_ptr<Command> MakeDoctorCommand() { return std::make_unique<DoctorCommand>(); }

}  // namespace baton
