// The emulated devices: their memory, their streams, and what a test has set.
#pragma once

#include <condition_variable>
#include <cstddef>
#include <map>
#include <memory>
#include <set>
#include <span>
#include <utility>
#include <vector>

#include "tests/support/cuda_emulation/device_memory.h"
#include "tests/support/cuda_emulation/runtime_api.h"
#include "tests/support/cuda_emulation/stream.h"

namespace baton::cuda_emulation {

inline constexpr unsigned kMaxThreads = 1024;  // of a block
inline constexpr size_t kDefaultSharedBytes = 48 << 10;

// Looked at with DeviceMutex.
struct Device {
  Device();

  int count = 1;                           // of devices
  bool peers = true;                       // they can reach one another's memory
  bool peers_lose_writes = false;          // those that reach it by handles
  std::set<std::pair<int, int>> reaching;  // the first was told that it reaches the second's
  DeviceMemory memory;
  std::vector<std::shared_ptr<CUstream_st>> streams;
  std::map<int, std::shared_ptr<CUstream_st>> own_streams;  // by device; among the others, too
  size_t turn = 0;                                          // of the stream that ran last
  bool running = false;                                     // a thread runs what is enqueued
  int pausing = 0;                                          // threads that wait for it to stop
  std::condition_variable changed;  // any of these, how far a stream is, or what it has
  std::map<const std::byte*, size_t> pinned;
  std::map<const void*, size_t> shared_limits;  // by kernel
  cudaError_t last_error = cudaSuccess;
  bool broken = false;
  int copies_until_failure = -1;  // -1: none fails
  int launches_until_failure = -1;
};
Device& TheDevice();
int& CurrentDevice();  // of this thread
bool IsOfCurrentDevice(cudaStream_t stream);

cudaError_t Keep(cudaError_t error);
// The pinned memory of the host that has this byte. Empty: none.
std::span<const std::byte> PinnedAllocationOf(const void* memory);
bool IsPinned(const void* memory, size_t bytes);
// What a test tells a process: see BreakDevice.
void BreakIfTold();
bool Hangs();
bool CopiesFail();  // to be started

}  // namespace baton::cuda_emulation
