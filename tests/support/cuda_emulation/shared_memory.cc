#include "tests/support/cuda_emulation/shared_memory.h"

#include <cstring>

#include "tests/support/cuda_emulation/red_zone.h"

// Where the linker has put all __shared__ variables; null where there are none.
extern "C" {
[[gnu::weak]] extern std::byte __start_baton_cuda_shared[];
[[gnu::weak]] extern std::byte __stop_baton_cuda_shared[];
}

namespace baton::cuda_emulation {

namespace {
constexpr size_t kAlignment = 1024;
static_assert(kRedZoneBytes <= kAlignment);
alignas(kAlignment) std::byte memory[kAlignment + kMaxSharedBytes + kRedZoneBytes];
size_t dynamic_bytes = 0;
}  // namespace

std::byte* SharedMemory() { return memory + kAlignment; }
size_t DynamicSharedBytes() { return dynamic_bytes; }
std::span<std::byte> SharedVariables() {
  return {__start_baton_cuda_shared, __stop_baton_cuda_shared};
}

void PoisonSharedMemory(size_t bytes) {
  dynamic_bytes = bytes;
  Open(SharedMemory(), bytes);
  std::memset(SharedMemory(), 0xff, bytes);
  const std::span<std::byte> variables = SharedVariables();
  if (!variables.empty()) std::memset(variables.data(), 0xff, variables.size());
  FillRedZone(SharedMemory() - kRedZoneBytes, kRedZoneBytes);
  FillRedZone(SharedMemory() + bytes, kRedZoneBytes);
}

bool SharedMemoryIsIntact(size_t bytes) {
  return RedZoneIsIntact(SharedMemory() - kRedZoneBytes, kRedZoneBytes) &&
         RedZoneIsIntact(SharedMemory() + bytes, kRedZoneBytes);
}

}  // namespace baton::cuda_emulation
