// The shared memory of the emulated block that runs.
#pragma once

#include <cstddef>
#include <span>

namespace baton::cuda_emulation {

inline constexpr size_t kMaxSharedBytes = size_t{227} << 10;  // what an H100 gives one block

// Aligned to 1024 bytes; the same for all blocks.
std::byte* SharedMemory();
// Of the running block.
size_t DynamicSharedBytes();
// All __shared__ variables of the process.
std::span<std::byte> SharedVariables();
// Fills `bytes` of dynamic shared memory and all __shared__ variables with 0xff, and what lies
// around the former with a pattern.
void PoisonSharedMemory(size_t bytes);
// Whether that pattern is still there.
bool SharedMemoryIsIntact(size_t bytes);

}  // namespace baton::cuda_emulation
