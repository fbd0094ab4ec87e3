#include "tests/support/ptx/memory_spaces.h"

#include <algorithm>
#include <cstring>
#include <mutex>
#include <span>
#include <vector>

#include "tests/support/cuda_emulation/device.h"
#include "tests/support/cuda_emulation/shared_memory.h"
#include "tests/support/cuda_emulation/warpgroup.h"

namespace baton::ptx {

namespace {

using cuda_emulation::SharedMemory;

std::vector<std::byte> static_shared;
// Allocations that the block has touched, the last one first.
std::vector<std::span<const std::byte>> touched;

bool Holds(std::span<const std::byte> memory, const std::byte* begin, size_t bytes) {
  return begin >= memory.data() && begin + bytes <= memory.data() + memory.size();
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
  if (address % bytes != 0) Fail("an address that is not aligned", instruction);
}

}  // namespace

void PrepareBlock(const Kernel& kernel) {
  static_shared.assign(kernel.static_shared_bytes, std::byte{0xff});
  touched.clear();
}

template <>
std::byte* Locate<Space::kGlobal>(Thread& thread, const Instruction& instruction, uint64_t address,
                                  size_t bytes, bool writes) {
  CheckAlignment(instruction, address, bytes);
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
std::byte* Locate<Space::kShared>(Thread&, const Instruction& instruction, uint64_t address,
                                  size_t bytes, bool) {
  const uint64_t in_window = address & 0xffffffffu;  // also from 64-bit registers
  CheckAlignment(instruction, in_window, bytes);
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
  const Param& last = thread.kernel->params.back();
  if (writes || address + bytes > last.offset + last.bytes) {
    Fail("an address beyond the kernel's parameters", instruction);
  }
  return const_cast<std::byte*>(thread.params) + address;
}

}  // namespace baton::ptx
