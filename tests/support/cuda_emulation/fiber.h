// Threads that take turns on one: each has a stack of its own and runs until it gives way.
#pragma once

#include <cstddef>

namespace baton::cuda_emulation {

// Not thread-safe. Reused for one run after the other; each must have ended before the next starts.
class Fiber {
 public:
  Fiber();
  ~Fiber();
  Fiber(const Fiber&) = delete;
  Fiber& operator=(const Fiber&) = delete;

  // The next Run enters `entry`, which ends by calling End.
  void Start(void (*entry)());
  // From outside: goes on with the fiber until it calls GiveWay or End.
  void Run();
  // From inside. End does not return, and does not say so to the compiler: AddressSanitizer would
  // ask the kernel for the signal stack before each call.
  void GiveWay();
  void End();

 private:
  static void Enter();
  void Leave(void** fake_stack);

  void (*entry_)() = nullptr;
  std::byte* stack_ = nullptr;
  void* stack_pointer_ = nullptr;         // while others run
  void* caller_stack_pointer_ = nullptr;  // while it runs
  void* fake_stack_ = nullptr;            // AddressSanitizer's, while others run
  const void* caller_stack_ = nullptr;    // for AddressSanitizer, while it runs
  size_t caller_stack_bytes_ = 0;
};

}  // namespace baton::cuda_emulation
