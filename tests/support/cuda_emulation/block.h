// Runs a kernel on the host: blocks one after another, the threads of a block in turns.
//
// A thread runs until it waits: at a barrier, or in a collective of its warp. What hardware leaves
// undefined ends the process with a message: a barrier that some threads of the block do not reach
// or reach at another place, a collective that a named lane does not join with the same mask, a
// read from a lane that does not take part, writing beyond shared memory. Shared memory is filled
// with 0xff before every block: as floats, NaN. Threads are taken in rising and in falling order by
// turns, so that a result must not depend on it.
//
// Not thread-safe.
#pragma once

#include <cstddef>
#include <cstdint>
#include <functional>

#include "tests/support/cuda_emulation/vector_types.h"

// Of the running thread.
inline uint3 threadIdx;
inline uint3 blockIdx;
inline dim3 blockDim;
inline dim3 gridDim;
inline constexpr int warpSize = 32;

namespace baton::cuda_emulation {

inline constexpr int kLanes = 32;
inline constexpr int kWarpgroupThreads = 4 * kLanes;

// A line of a kernel, as std::source_location, which clang 14 does not have.
struct Place {
  const char* file = "";
  unsigned line = 0;
  const char* function = "";

  // As a default argument: where the function with that argument is called.
  static constexpr Place Here(const char* file = __builtin_FILE(), unsigned line = __builtin_LINE(),
                              const char* function = __builtin_FUNCTION()) {
    return {file, line, function};
  }
};

struct KernelLaunch {
  dim3 grid;
  dim3 block;
  size_t shared_bytes = 0;
  std::function<void()> thread;  // what one thread does
  const void* kernel = nullptr;  // its name is looked up here
  bool dependent = false;        // every thread has to call WaitForPreviousGrid
  bool overlaps = false;         // and what it does before may run beside the launch before
};

// Returns when all blocks have ended.
void RunKernel(const KernelLaunch& launch);

// All that follows: from a thread of a kernel.

void* DynamicSharedMemory();

void SyncThreads(const Place& where);
// How many threads of the block came with a `predicate`.
int SyncThreadsCount(bool predicate, const Place& where);

// What the lanes of a warp bring: null for those that `mask` does not name.
struct WarpExchange {
  void* lanes[kLanes] = {};
  uint32_t mask = 0;
  int first_thread = 0;
};
using Combine = void (*)(const WarpExchange& exchange);
// Waits until all lanes of `mask` are in a call with the same arguments but `data`; `combine` is
// then called once.
void WarpCollective(uint32_t mask, void* data, Combine combine, const Place& where);
int LaneIndex();
int ThreadIndex();  // in the block

// The same of four warps that follow one another, which all must come.
struct WarpgroupExchange {
  void* threads[kWarpgroupThreads] = {};
  int first_thread = 0;
};
using CombineWarpgroup = void (*)(const WarpgroupExchange& exchange);
void WarpgroupCollective(void* data, CombineWarpgroup combine, const Place& where);

// See engine/kernels/cuda/ptx.h. A thread of a dependent launch that ends without it ends the
// process.
void WaitForPreviousGrid();
// `global` null: zeros.
void StartCopy16(void* shared, const void* global);
void CommitCopies();
void WaitForCopies(int pending);
// See engine/kernels/cuda/wgmma.h: what the thread has waited for is visible to products.
void FenceCopies();
// Fails where a copy to these bytes is under way, or no fence of its thread came behind it.
void CheckCopyIsVisible(const void* shared, const Place& where);
void LoadMatrix4(uint32_t (&fragment)[4], const void* shared_row, bool transposed,
                 const Place& where = Place::Here());
void MmaBf16(float (&d)[4], const uint32_t (&a)[4], const uint32_t (&b)[2],
             const Place& where = Place::Here());

// Ends the process; says which thread of which block was running.
[[noreturn]] void Fail(const char* what, const Place& where);

}  // namespace baton::cuda_emulation
