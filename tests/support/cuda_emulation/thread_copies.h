// Copies to shared memory that a thread does not wait for at once: of cp.async. A copy spoils its
// target when it starts and arrives when it is waited for.
#pragma once

#include <cstddef>
#include <deque>
#include <vector>

#include "tests/support/cuda_emulation/observer.h"

namespace baton::cuda_emulation {

// Of one thread of the block that runs, by its number there.
class ThreadCopies {
 public:
  // `global` null: zeros. code: where the kernel starts it.
  void Start(int thread, void* shared, const void* global, const void* code);
  void Commit();
  // Until at most `pending` of the newest groups are under way.
  void Wait(int thread, int pending);
  // What has arrived is visible to products.
  void Fence() { ++fences_; }
  int fences() const { return fences_; }
  bool UnderWay() const;
  void Clear();

 private:
  struct Copy {
    void* shared;
    const void* global;
    const void* code;
  };
  static void Observe(void (Observer::*step)(const Access&), int thread, const Copy& copy);

  std::vector<Copy> uncommitted_;
  std::deque<std::vector<Copy>> groups_;
  int fences_ = 0;
};

// The last copy to 16 bytes of shared memory.
struct LastCopy {
  int thread = -1;  // -1: none
  bool under_way = false;
  int fences = 0;  // of the thread, before the copy had come
};
// Null: not shared memory.
const LastCopy* LastCopyTo(const void* shared);
// A block with so many bytes starts.
void ForgetLastCopies(size_t shared_bytes);

}  // namespace baton::cuda_emulation
