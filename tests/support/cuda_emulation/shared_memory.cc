#include "tests/support/cuda_emulation/shared_memory.h"

#include "tests/support/cuda_emulation/red_zone.h"

namespace baton::cuda_emulation {

namespace {
alignas(128) std::byte memory[kRedZoneBytes + kMaxSharedBytes + kRedZoneBytes];
}  // namespace

std::byte* SharedMemory() { return memory + kRedZoneBytes; }

void PoisonSharedMemory(size_t bytes) {
  Open(SharedMemory(), bytes);
  std::fill_n(SharedMemory(), bytes, std::byte{0xff});
  FillRedZone(memory, kRedZoneBytes);
  FillRedZone(SharedMemory() + bytes, kRedZoneBytes);
}

bool SharedMemoryIsIntact(size_t bytes) {
  return RedZoneIsIntact(memory, kRedZoneBytes) &&
         RedZoneIsIntact(SharedMemory() + bytes, kRedZoneBytes);
}

}  // namespace baton::cuda_emulation
