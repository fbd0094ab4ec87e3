// What the emulation tells a race checker of the kernels that run: see race_checker.h. Without one
// it tells nobody.
#pragma once

#include <cstddef>
#include <cstdint>

namespace baton::cuda_emulation {

// Bytes of memory that a thread of the block reads or writes.
struct Access {
  int thread = 0;
  const void* address = nullptr;
  size_t bytes = 0;
  const void* code = nullptr;  // where the kernel does it: a return address
};

class Observer {
 public:
  virtual ~Observer() = default;
  // What a thread does before its wait may run beside the launch before, if the two overlap.
  virtual void LaunchStarts(bool overlaps) = 0;
  virtual void WaitsForPreviousGrid(int thread) = 0;
  virtual void BlockStarts() = 0;
  // This thread goes on; -1: none does.
  virtual void ThreadRuns(int thread) = 0;
  // All threads of the block are at a barrier; the lanes of a mask are at one of their warp.
  virtual void BlockMeets() = 0;
  virtual void WarpMeets(int first_thread, uint32_t lanes) = 0;
  // Reads that an instruction does for a thread.
  virtual void Reads(const Access& access) = 0;
  // A copy that does not wait: it may write from its start until it arrives.
  virtual void CopyStarts(const Access& target) = 0;
  virtual void CopyArrives(const Access& target) = 0;
  // What the running thread does in between is one atomic operation.
  virtual void AtomicStarts(const Access& access) = 0;
  virtual void AtomicEnds() = 0;
};

inline Observer* observer = nullptr;

// Around an atomic operation of the running thread.
class AtomicScope {
 public:
  AtomicScope(const void* address, size_t bytes);
  ~AtomicScope();
  AtomicScope(const AtomicScope&) = delete;
  AtomicScope& operator=(const AtomicScope&) = delete;
};

}  // namespace baton::cuda_emulation
