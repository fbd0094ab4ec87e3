#include "cli/compute_device.h"

#include <algorithm>

#include "absl/strings/numbers.h"
#include "absl/strings/str_cat.h"
#include "absl/strings/str_split.h"
#include "common/check.h"

namespace baton {
namespace {

// `devices`: as DevicesOfWorkers names them.
std::vector<int32_t> FirstGpus(const std::vector<std::string>& devices) {
  std::vector<int32_t> firsts;
  for (const std::string& device : devices) {
    const absl::StatusOr<ComputeDevice> parsed = ParseComputeDevice(device);
    BATON_CHECK(parsed.ok()) << parsed.status().ToString();
    firsts.push_back(parsed->index);
  }
  return firsts;
}

}  // namespace

absl::StatusOr<ComputeDevice> ParseComputeDevice(const std::string& text) {
  if (text == "cpu") return ComputeDevice{};
  if (text == "cuda") return ComputeDevice{.cuda = true};
  constexpr char kPrefix[] = "cuda:";
  constexpr int32_t kMaxDevices = 1024;
  ComputeDevice device{.cuda = true};
  const bool indexed = text.starts_with(kPrefix) &&
                       absl::SimpleAtoi(text.substr(sizeof(kPrefix) - 1), &device.index) &&
                       device.index >= 0 && device.index < kMaxDevices;
  if (indexed) return device;
  return absl::InvalidArgumentError(
      absl::StrCat("device: \"", text, "\" must be cpu, cuda or cuda:N"));
}

absl::StatusOr<std::vector<std::string>> DevicesOfWorkers(const std::string& list, int32_t count) {
  const std::vector<std::string> devices = absl::StrSplit(list, ',');
  std::vector<std::string> names;
  for (const std::string& device : devices) {
    ASSIGN_OR_RETURN(const ComputeDevice parsed, ParseComputeDevice(device));
    names.push_back(parsed.cuda ? absl::StrCat("cuda:", parsed.index) : "cpu");
    if (!parsed.cuda && devices.size() > 1) {
      return absl::InvalidArgumentError(
          absl::StrCat("device: \"", list, "\": several are for GPUs only"));
    }
  }
  std::vector<std::string> of_workers;
  for (int32_t i = 0; i < count; ++i) {
    of_workers.push_back(names[static_cast<size_t>(i) % names.size()]);
  }
  return of_workers;
}

int32_t WorkersOnGpusOf(size_t worker, const std::vector<std::string>& devices,
                        const std::vector<int32_t>& degrees) {
  const std::vector<int32_t> firsts = FirstGpus(devices);
  int32_t most = 1;
  for (int32_t gpu = firsts[worker]; gpu < firsts[worker] + degrees[worker]; ++gpu) {
    int32_t workers = 0;
    for (size_t i = 0; i < firsts.size(); ++i) {
      workers += firsts[i] <= gpu && gpu < firsts[i] + degrees[i] ? 1 : 0;
    }
    most = std::max(most, workers);
  }
  return most;
}

std::vector<size_t> WorkersBeforeOnGpusOf(size_t worker, const std::vector<std::string>& devices,
                                          const std::vector<int32_t>& degrees) {
  const std::vector<int32_t> firsts = FirstGpus(devices);
  std::vector<size_t> before;
  for (size_t i = 0; i < worker; ++i) {
    if (firsts[i] < firsts[worker] + degrees[worker] && firsts[worker] < firsts[i] + degrees[i]) {
      before.push_back(i);
    }
  }
  return before;
}

}  // namespace baton
