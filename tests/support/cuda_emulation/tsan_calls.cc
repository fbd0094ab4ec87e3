// What code that is compiled with -fsanitize=thread calls, in place of ThreadSanitizer's library:
// plain reads and writes go to a race checker of the emulated kernels. Kernels' atomic operations
// come by AtomicScope; other atomic ones, of the host's, are done and not looked at.
#include "tests/support/cuda_emulation/race_checker.h"

namespace {

baton::cuda_emulation::RaceChecker* checker = nullptr;

}  // namespace

#define BATON_TSAN_ACCESS(name, bytes, writes)                             \
  void __tsan_##name(const void* address) {                                \
    if (checker == nullptr) return;                                        \
    checker->Touches(address, bytes, writes, __builtin_return_address(0)); \
  }

extern "C" {

// By the start-up code of every such file.
void __tsan_init() {
  if (checker != nullptr) return;
  checker = new baton::cuda_emulation::RaceChecker;
  baton::cuda_emulation::observer = checker;
}

void __tsan_func_entry(void*) {}
void __tsan_func_exit() {}
void __tsan_vptr_update(void**, void*) {}
void __tsan_vptr_read(void**) {}

BATON_TSAN_ACCESS(read1, 1, false)
BATON_TSAN_ACCESS(read2, 2, false)
BATON_TSAN_ACCESS(read4, 4, false)
BATON_TSAN_ACCESS(read8, 8, false)
BATON_TSAN_ACCESS(read16, 16, false)
BATON_TSAN_ACCESS(write1, 1, true)
BATON_TSAN_ACCESS(write2, 2, true)
BATON_TSAN_ACCESS(write4, 4, true)
BATON_TSAN_ACCESS(write8, 8, true)
BATON_TSAN_ACCESS(write16, 16, true)
BATON_TSAN_ACCESS(unaligned_read2, 2, false)
BATON_TSAN_ACCESS(unaligned_read4, 4, false)
BATON_TSAN_ACCESS(unaligned_read8, 8, false)
BATON_TSAN_ACCESS(unaligned_read16, 16, false)
BATON_TSAN_ACCESS(unaligned_write2, 2, true)
BATON_TSAN_ACCESS(unaligned_write4, 4, true)
BATON_TSAN_ACCESS(unaligned_write8, 8, true)
BATON_TSAN_ACCESS(unaligned_write16, 16, true)

void __tsan_read_range(const void* address, size_t bytes) {
  if (checker != nullptr) checker->Touches(address, bytes, false, __builtin_return_address(0));
}
void __tsan_write_range(const void* address, size_t bytes) {
  if (checker != nullptr) checker->Touches(address, bytes, true, __builtin_return_address(0));
}

unsigned __tsan_atomic32_fetch_add(volatile void* at, unsigned value, int) {
  return __atomic_fetch_add(static_cast<volatile unsigned*>(at), value, __ATOMIC_SEQ_CST);
}
unsigned __tsan_atomic32_fetch_sub(volatile void* at, unsigned value, int) {
  return __atomic_fetch_sub(static_cast<volatile unsigned*>(at), value, __ATOMIC_SEQ_CST);
}

}  // extern "C"
