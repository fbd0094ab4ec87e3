#include "cli/doctor_command.h"

#include <sys/resource.h>
#include <sys/statvfs.h>
#include <unistd.h>

#include <cstdio>
#include <fstream>
#include <string>
#include <thread>

#include "absl/strings/str_cat.h"
#include "absl/strings/str_format.h"
#include "cli/version.h"
#include "common/check.h"
#include "engine/kernels/isa.h"

namespace baton {
namespace {

constexpr double kGib = 1024.0 * 1024.0 * 1024.0;

// One line of the report: a value, and where it matters what would mend it.
void Row(const std::string& name, const std::string& value, const std::string& advice = "") {
  std::printf("  %-16s %s\n", name.c_str(), value.c_str());
  if (!advice.empty()) std::printf("  %-16s   -> %s\n", "", advice.c_str());
}

int64_t AvailableMemoryBytes() {
  std::ifstream file("/proc/meminfo");
  for (std::string key; file >> key;) {
    int64_t kib = 0;
    if (key == "MemAvailable:" && file >> kib) return kib * 1024;
    file.ignore(256, '\n');
  }
  return 0;
}

void ReportMachine() {
  std::printf("machine\n");
  Row("cores", absl::StrCat(std::thread::hardware_concurrency()));
  Row("memory", absl::StrFormat("%.1f GiB available", AvailableMemoryBytes() / kGib));
  struct statvfs shm {};
  if (statvfs("/dev/shm", &shm) == 0) {
    const double free_gib = static_cast<double>(shm.f_bavail) * static_cast<double>(shm.f_frsize) / kGib;
    Row("/dev/shm", absl::StrFormat("%.1f GiB free", free_gib),
        free_gib < 0.25 ? "shared memory between workers needs room: mount -o remount,size=1G "
                          "/dev/shm (containers: --shm-size=1g), or use --kv-transport tcp"
                        : "");
  } else {
    Row("/dev/shm", "not mounted", "workers on this machine will use TCP between them");
  }
  rlimit files{};
  getrlimit(RLIMIT_NOFILE, &files);
  Row("open files", absl::StrCat(files.rlim_cur),
      files.rlim_cur < 4096 ? "a router with many streams needs more: ulimit -n 65536" : "");
}

}  // namespace

class DoctorCommand final : public Command {
 public:
  std::string name() const override { return "doctor"; }
  std::string summary() const override {
    return "Check this machine: instructions, memory, transports and their speed";
  }
  void Describe(ConfigSchema& /*schema*/) override {}
  absl::StatusOr<int> Run() override {
    std::printf("baton %s\n\n", kVersion);
    ReportMachine();
    return 0;
  }
};

std::unique_ptr<Command> MakeDoctorCommand() { return std::make_unique<DoctorCommand>(); }

}  // namespace baton
