// A thread that runs a kernel in PTX.
#pragma once

#include <bit>
#include <cstddef>
#include <cstdint>
#include <type_traits>
#include <vector>

#include "tests/support/ptx/kernel.h"
#include "tests/support/ptx/products.h"

namespace baton::ptx {

struct Thread {
  std::vector<uint64_t> registers;  // by slot
  const Kernel* kernel = nullptr;
  const Instruction* next = nullptr;  // null: it has ended
  const std::byte* params = nullptr;  // the kernel's, each at its offset
  std::vector<std::byte> local;
  bool waits_for_previous_grid = false;  // the kernel has such an instruction, and it did not run
  Products products;
};

// Operand `i` as it lies in a register of its type: narrow ones in the low bits.
template <typename T>
T Get(const Thread& thread, const Instruction& instruction, uint32_t i) {
  const uint64_t bits = thread.registers[instruction.slots[i]];
  if constexpr (std::is_same_v<T, float>) {
    return std::bit_cast<float>(static_cast<uint32_t>(bits));
  } else if constexpr (std::is_same_v<T, double>) {
    return std::bit_cast<double>(bits);
  } else if constexpr (std::is_same_v<T, bool>) {
    return bits != 0;
  } else {
    return static_cast<T>(bits);
  }
}

// Signed numbers fill the register with their sign, as loads to wider registers have to.
template <typename T>
void Set(Thread& thread, const Instruction& instruction, uint32_t i, T value) {
  uint64_t& bits = thread.registers[instruction.slots[i]];
  if constexpr (std::is_same_v<T, float>) {
    bits = std::bit_cast<uint32_t>(value);
  } else if constexpr (std::is_same_v<T, double>) {
    bits = std::bit_cast<uint64_t>(value);
  } else {
    bits = static_cast<uint64_t>(value);
  }
}

// Ends the process; names the instruction and the thread.
[[noreturn]] void Fail(const char* what, const Instruction& instruction);

}  // namespace baton::ptx
