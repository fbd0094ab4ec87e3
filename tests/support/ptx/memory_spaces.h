// The memory that a thread reads and writes by address. Every access is looked at: it must be
// aligned to its size, and all of it in one allocation, one variable's memory, or the block's.
//
// Addresses of shared memory: dynamic as the emulation's descriptors have them (warpgroup.h),
// static from kStaticSharedBase on. Of local memory: from 0. Of global: the host's.
#pragma once

#include <cstddef>
#include <cstdint>

#include "tests/support/ptx/thread.h"

namespace baton::ptx {

inline constexpr uint32_t kStaticSharedBase = 1 << 20;

enum class Space { kGlobal, kShared, kLocal, kParam };

// Before the first thread of a block: fills its static shared memory with 0xff, and forgets what is
// known of global memory, which may have been freed since.
void PrepareBlock(const Kernel& kernel);

// Where `bytes` at `address` are. Ends the process where they are nowhere.
template <Space>
std::byte* Locate(Thread& thread, const Instruction& instruction, uint64_t address, size_t bytes,
                  bool writes);
template <>
std::byte* Locate<Space::kGlobal>(Thread& thread, const Instruction& instruction, uint64_t address,
                                  size_t bytes, bool writes);
template <>
std::byte* Locate<Space::kShared>(Thread& thread, const Instruction& instruction, uint64_t address,
                                  size_t bytes, bool writes);
template <>
std::byte* Locate<Space::kLocal>(Thread& thread, const Instruction& instruction, uint64_t address,
                                 size_t bytes, bool writes);
template <>
std::byte* Locate<Space::kParam>(Thread& thread, const Instruction& instruction, uint64_t address,
                                 size_t bytes, bool writes);

// The address in operands `i` and `i + 1`, its base and its offset.
inline uint64_t AddressAt(const Thread& thread, const Instruction& instruction, uint32_t i) {
  return Get<uint64_t>(thread, instruction, i) + Get<uint64_t>(thread, instruction, i + 1);
}

}  // namespace baton::ptx
