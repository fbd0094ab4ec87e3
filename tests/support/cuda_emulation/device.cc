#include "tests/support/cuda_emulation/device.h"

#include <unistd.h>

#include <algorithm>
#include <cstdlib>
#include <cstring>
#include <string>
#include <utility>

#include "common/check.h"
#include "tests/support/cuda_emulation/shared_memory.h"

namespace baton::cuda_emulation {

namespace {

constexpr unsigned kMaxGridYz = 65535;

// What a test of whole processes says: see runtime_api.h.
bool SwitchIsOn(const char* variable) {
  const char* prefix = std::getenv(variable);
  return prefix != nullptr && access((prefix + std::to_string(getpid())).c_str(), F_OK) == 0;
}

bool IsDependent(const cudaLaunchConfig_t& config) {
  return std::any_of(config.attrs, config.attrs + config.numAttrs, [](const auto& attribute) {
    return attribute.id == cudaLaunchAttributeProgrammaticStreamSerialization &&
           attribute.val.programmaticStreamSerializationAllowed != 0;
  });
}

void Break() {
  Device& device = TheDevice();
  device.broken = true;
  for (const auto& stream : device.streams) stream->enqueued.clear();
  device.changed.notify_all();
}

}  // namespace

Device::Device() {
  const char* devices = std::getenv("EMULATED_CUDA_DEVICES");
  if (devices != nullptr) count = std::atoi(devices);
  peers = std::getenv("EMULATED_CUDA_WITHOUT_PEERS") == nullptr;
  peers_lose_writes = std::getenv("EMULATED_CUDA_PEERS_LOSE_WRITES") != nullptr;
}

Device& TheDevice() {
  static auto* device = new Device;
  return *device;
}

int& CurrentDevice() {
  thread_local int current = 0;
  return current;
}

bool IsOfCurrentDevice(cudaStream_t stream) {
  return stream == nullptr || stream->device == CurrentDevice();
}

cudaError_t Keep(cudaError_t error) {
  if (error != cudaSuccess) TheDevice().last_error = error;
  return error;
}

std::span<const std::byte> PinnedAllocationOf(const void* memory) {
  const auto& pinned = TheDevice().pinned;
  const auto* byte = static_cast<const std::byte*>(memory);
  auto after = pinned.upper_bound(byte);
  if (after == pinned.begin()) return {};
  const auto& [begin, bytes] = *--after;
  return byte < begin + bytes ? std::span(begin, bytes) : std::span<const std::byte>();
}

bool IsPinned(const void* memory, size_t bytes) {
  const auto* begin = static_cast<const std::byte*>(memory);
  const std::span<const std::byte> allocation = PinnedAllocationOf(memory);
  return !allocation.empty() && begin + bytes <= allocation.data() + allocation.size();
}

void BreakIfTold() {
  if (SwitchIsOn("EMULATED_CUDA_BREAKS")) Break();
}

bool CopiesFail() { return SwitchIsOn("EMULATED_CUDA_FAILS_COPIES"); }

bool Hangs() { return SwitchIsOn("EMULATED_CUDA_HANGS"); }

void FailACopyAfter(int copies) {
  const Lock lock(DeviceMutex());
  TheDevice().copies_until_failure = copies;
}

void FailALaunchAfter(int launches) {
  const Lock lock(DeviceMutex());
  TheDevice().launches_until_failure = launches;
}

void UsePeers(bool peers) {
  const Lock lock(DeviceMutex());
  TheDevice().peers = peers;
  TheDevice().reaching.clear();
}

void UseDevices(int count) {
  const Lock lock(DeviceMutex());
  TheDevice().count = count;
}

void BreakDevice() {
  const Lock lock(DeviceMutex());
  Break();
}

void Enqueue(cudaStream_t stream, Work work) {
  const Lock lock(DeviceMutex());
  Add(stream, std::move(work));
}

cudaError_t EnqueueKernel(const cudaLaunchConfig_t& config, const void* kernel, Work thread) {
  const Lock lock(DeviceMutex());
  const dim3& grid = config.gridDim;
  const dim3& block = config.blockDim;
  const bool has_shape = grid.x > 0 && grid.y > 0 && grid.z > 0 && grid.y <= kMaxGridYz &&
                         grid.z <= kMaxGridYz && block.x > 0 && block.y > 0 && block.z > 0 &&
                         block.x * block.y * block.z <= kMaxThreads;
  if (!has_shape) return Keep(cudaErrorInvalidConfiguration);
  if (!IsOfCurrentDevice(config.stream)) return Keep(cudaErrorInvalidResourceHandle);
  const auto limit = TheDevice().shared_limits.find(kernel);
  const size_t allowed =
      limit == TheDevice().shared_limits.end() ? kDefaultSharedBytes : limit->second;
  if (config.dynamicSmemBytes > allowed) return Keep(cudaErrorInvalidValue);
  int& left = TheDevice().launches_until_failure;
  if (left >= 0 && left-- == 0) return Keep(cudaErrorInvalidValue);
  Add(config.stream, KernelLaunch{.grid = grid,
                                  .block = block,
                                  .shared_bytes = config.dynamicSmemBytes,
                                  .thread = std::move(thread),
                                  .kernel = kernel,
                                  .dependent = IsDependent(config)});
  return cudaSuccess;
}

void CheckReach(cudaStream_t stream, const void* param, size_t bytes) {
  const Lock lock(DeviceMutex());
  const Device& device = TheDevice();
  const int running = stream != nullptr ? stream->device : CurrentDevice();
  for (size_t at = 0; at + sizeof(void*) <= bytes; at += sizeof(void*)) {
    const std::byte* address = nullptr;
    std::memcpy(&address, static_cast<const std::byte*>(param) + at, sizeof(address));
    const auto owner = device.memory.OwnerOf(address);
    if (!owner.has_value() || owner->device == running) continue;
    const bool reached = !owner->imported && device.reaching.contains({running, owner->device});
    BATON_CHECK(reached) << "a kernel of device " << running << " is given memory of device "
                         << owner->device << ", which it was not told to reach";
  }
}

void Expose(void* memory) {
  Lock lock(DeviceMutex());
  WaitUntilNothingRuns(lock);
  TheDevice().memory.Expose(static_cast<std::byte*>(memory));
}

}  // namespace baton::cuda_emulation
