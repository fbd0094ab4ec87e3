#include "kvtransfer/transport/machine_id.h"

#include <sys/stat.h>

#include <fstream>
#include <optional>

#include "absl/strings/str_cat.h"

namespace baton {
namespace {

std::optional<struct stat> StatOf(const char* path) {
  struct stat info = {};
  if (stat(path, &info) != 0) return std::nullopt;
  return info;
}

}  // namespace

std::string LocalMachineId() {
  std::ifstream file("/proc/sys/kernel/random/boot_id");
  std::string kernel_boot;
  std::getline(file, kernel_boot);
  const auto shm = StatOf("/dev/shm");
  const auto pid_namespace = StatOf("/proc/self/ns/pid");
  const auto ipc_namespace = StatOf("/proc/self/ns/ipc");
  const auto net_namespace = StatOf("/proc/self/ns/net");
  if (kernel_boot.empty() || !shm || !pid_namespace || !ipc_namespace || !net_namespace) return "";
  return absl::StrCat(kernel_boot, ":", shm->st_dev, ".", shm->st_ino, ":", pid_namespace->st_ino,
                      ":", ipc_namespace->st_ino, ":", net_namespace->st_ino);
}

}  // namespace baton
