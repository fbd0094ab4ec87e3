#include "tests/support/ptx/memory_spaces.h"

#include <algorithm>
#include <cstring>
#include <mutex>
#include <span>
#include <vector>

#include "tests/support/cuda_emulation/device.h"
#include "tests/support/cuda_emulation/shared_memory.h"
#include "tests/support/cuda_emulation/warpgroup.h"
#include "tests/support/ptx/traffic.h"

namespace baton::ptx {

namespace {

using cuda_emulation::SharedMemory;

std::vector<std::byte> static_shared;
// Allocations that the block has touched, the last one first.
std::vector<std::span<const std::byte>> touched;

bool Holds(std::span<const std::byte> memory, const std::byte* begin, size_t bytes) {
  const auto offset =
      reinterpret_cast<uintptr_t>(begin) - reinterpret_cast<uintptr_t>(memory.data());
  return offset <= memory.size() && bytes <= memory.size() - offset;
}

// On the device or pinned, which devices reach by the host's addresses. Empty: in none.
std::span<const std::byte> AllocationOf(const std::byte* memory) {
  const std::lock_guard lock(cuda_emulation::DeviceMutex());
  const std::span<const std::byte> allocation =
      cuda_emulation::TheDevice().memory.AllocationOf(memory);
  return allocation.empty() ? cuda_emulation::PinnedAllocationOf(memory) : allocation;
}

bool IsGlobal(const std::byte* memory, size_t bytes) {
  const auto found = std::find_if(touched.begin(), touched.end(), [&](const auto& allocation) {
    return Holds(allocation, memory, bytes);
  });
  if (found != touched.end()) {
    if (found != touched.begin()) std::iter_swap(found, touched.begin());
    return true;
  }
  const std::span<const std::byte> allocation = AllocationOf(memory);
  if (!Holds(allocation, memory, bytes)) return false;
  touched.insert(touched.begin(), allocation);
  return true;
}

bool IsVariable(const Kernel& kernel, const std::byte* memory, size_t bytes) {
  return std::any_of(kernel.variables.begin(), kernel.variables.end(),
                     [&](const auto& variable) { return Holds(variable, memory, bytes); });
}

void CheckAlignment(const Instruction& instruction, uint64_t address, size_t bytes) {
  if ((address & (bytes - 1)) != 0) Fail("an address that is not aligned", instruction);
}

}  // namespace

void PrepareBlock(const Kernel& kernel) {
  // More than the default takes a kernel that was told, which the emulation looks at.
  const size_t dynamic_bytes = cuda_emulation::DynamicSharedBytes();
  const size_t limit = dynamic_bytes > cuda_emulation::kDefaultSharedBytes
                           ? cuda_emulation::kMaxSharedBytes
                           : cuda_emulation::kDefaultSharedBytes;
  const Instruction& first = kernel.code.front();
  if (kernel.static_shared_bytes + dynamic_bytes > limit) {
    Fail("more shared memory than a block may have", first);
  }
  if (kernel.max_threads > 0 && blockDim.x * blockDim.y * blockDim.z > kernel.max_threads) {
    Fail("more threads than the kernel was compiled for", first);
  }
  static_shared.assign(kernel.static_shared_bytes, std::byte{0xff});
  touched.clear();
}

template <>
std::byte* Locate<Space::kGlobal>(Thread& thread, const Instruction& instruction, uint64_t address,
                                  size_t bytes, bool writes) {
  CheckAlignment(instruction, address, bytes);
  if (traffic != nullptr) traffic->Asks(thread, instruction, Space::kGlobal, address, bytes);
  auto* memory = reinterpret_cast<std::byte*>(address);
  if (writes && thread.waits_for_previous_grid) {
    Fail("a write before the grid in front has been waited for", instruction);
  }
  if (IsGlobal(memory, bytes) || (!writes && IsVariable(*thread.kernel, memory, bytes))) {
    return memory;
  }
  Fail("an address beyond global memory", instruction);
}

template <>
std::byte* Locate<Space::kShared>(Thread& thread, const Instruction& instruction, uint64_t address,
                                  size_t bytes, bool) {
  const uint64_t in_window = address & 0xffffffffu;
  const uint64_t above = address >> 32;  // of a 32-bit register: zeros, or its sign
  if (above != 0 && above != 0xffffffffu) Fail("no address of shared memory", instruction);
  CheckAlignment(instruction, in_window, bytes);
  if (traffic != nullptr) traffic->Asks(thread, instruction, Space::kShared, in_window, bytes);
  const uint64_t dynamic_base = cuda_emulation::SharedAddress(SharedMemory());
  if (in_window >= kStaticSharedBase) {
    const uint64_t offset = in_window - kStaticSharedBase;
    if (offset + bytes <= static_shared.size()) return static_shared.data() + offset;
  } else if (in_window >= dynamic_base) {
    const uint64_t offset = in_window - dynamic_base;
    if (offset + bytes <= cuda_emulation::DynamicSharedBytes()) return SharedMemory() + offset;
  }
  Fail("an address beyond the block's shared memory", instruction);
}

template <>
std::byte* Locate<Space::kLocal>(Thread& thread, const Instruction& instruction, uint64_t address,
                                 size_t bytes, bool) {
  CheckAlignment(instruction, address, bytes);
  if (address > thread.local.size() || bytes > thread.local.size() - address) {
    Fail("an address beyond local memory", instruction);
  }
  return thread.local.data() + address;
}

template <>
std::byte* Locate<Space::kParam>(Thread& thread, const Instruction& instruction, uint64_t address,
                                 size_t bytes, bool writes) {
  CheckAlignment(instruction, address, bytes);
  const auto& params = thread.kernel->params;
  const size_t end = params.empty() ? 0 : params.back().offset + params.back().bytes;
  if (writes || address > end || bytes > end - address) {
    Fail("an address beyond the kernel's parameters", instruction);
  }
  return const_cast<std::byte*>(thread.params) + address;
}

}  // namespace baton::ptx
