// The emulated devices: their memory, and what is enqueued on them.
#pragma once

#include <cstddef>
#include <cstdint>
#include <functional>
#include <map>
#include <memory>
#include <mutex>
#include <set>
#include <thread>
#include <utility>
#include <vector>

#include "tests/support/cuda_emulation/device_memory.h"
#include "tests/support/cuda_emulation/runtime_api.h"

namespace baton::cuda_emulation {
using Work = std::function<void()>;
}

struct CUgraph_st {
  std::vector<baton::cuda_emulation::Work> nodes;
};
struct CUgraphExec_st {
  std::vector<baton::cuda_emulation::Work> nodes;
};
struct CUstream_st {
  int device = 0;
  std::unique_ptr<CUgraph_st> captured;  // null: it does not capture
};
struct CUevent_st {
  int device = 0;
  int64_t ran_before = -1;  // pieces of work; -1: not recorded, or not yet there
};

namespace baton::cuda_emulation {

inline constexpr unsigned kMaxThreads = 1024;  // of a block
inline constexpr size_t kDefaultSharedBytes = 48 << 10;

// Held by whoever looks at the device, and while it works.
std::recursive_mutex& DeviceMutex();

struct Device {
  Device();

  int count = 1;                           // of devices
  bool peers = true;                       // they can reach one another's memory
  bool peers_lose_writes = false;          // those that reach it by handles
  std::set<std::pair<int, int>> reaching;  // the first was told that it reaches the second's
  DeviceMemory memory;
  std::vector<Work> enqueued;
  int64_t ran = 0;  // pieces of work
  // What `ran` is for the piece behind the last kernel, unless something waited for that.
  int64_t behind_kernel = -1;
  std::map<const std::byte*, size_t> pinned;
  std::map<const void*, size_t> shared_limits;        // by kernel
  std::map<cudaStream_t, std::thread::id> capturing;  // by the thread that began
  cudaError_t last_error = cudaSuccess;
  bool broken = false;
  int copies_until_failure = -1;  // -1: none fails
  int launches_until_failure = -1;
};
Device& TheDevice();
int& CurrentDevice();  // of this thread
bool IsOfCurrentDevice(cudaStream_t stream);

cudaError_t Keep(cudaError_t error);
bool IsPinned(const void* memory, size_t bytes);
bool Capturing();  // this thread
// Whether it does nothing more, in a process that was told so: see BreakDevice.
bool Hangs();
bool CopiesFail();  // to be started; told as above
void RunEnqueued();
// Waiting is not allowed to a thread that captures a graph. Everything ends with the error of a
// broken device.
cudaError_t WaitForAll();

}  // namespace baton::cuda_emulation
