// Kernels in PTX, parsed: what a thread of the interpreter runs.
#pragma once

#include <cstddef>
#include <cstdint>
#include <iterator>
#include <span>
#include <string>
#include <string_view>
#include <vector>

#include "tests/support/cuda_emulation/block.h"

namespace baton::ptx {

struct Thread;
struct Instruction;
// What an instruction does to the thread that has come to it.
using Run = void (*)(Thread& thread, const Instruction& instruction);

// Every operand is in a slot of the thread's registers: a register, a constant, or a special
// register (%tid.x). Those of `{...}` follow one another; an address `[base+offset]` is two.
struct Instruction {
  static constexpr uint32_t kUnguarded = UINT32_MAX;

  Run run = nullptr;
  const uint32_t* slots = nullptr;  // [count]
  uint32_t count = 0;
  uint32_t guard = kUnguarded;  // the predicate's slot
  bool guard_is_negated = false;
  uint32_t target = 0;  // of a branch: the number of an instruction
  std::string_view text;
  cuda_emulation::Place where;  // in CUDA C++, where the PTX says so
};

struct Param {
  size_t offset = 0;
  size_t bytes = 0;
};

// In the first slots of every thread, in this order.
inline constexpr std::string_view kSpecialRegisters[] = {
    "%tid.x",   "%tid.y",   "%tid.z",    "%ntid.x",   "%ntid.y",   "%ntid.z", "%ctaid.x",
    "%ctaid.y", "%ctaid.z", "%nctaid.x", "%nctaid.y", "%nctaid.z", "%laneid"};
inline constexpr size_t kSpecialSlots = std::size(kSpecialRegisters);

struct Kernel {
  std::string name;  // mangled
  std::vector<Param> params;
  std::vector<Instruction> code;                      // the last one returns
  std::vector<uint32_t> slots;                        // of all instructions
  std::vector<uint64_t> constants;                    // in the slots behind the special registers
  size_t register_count = 0;                          // in the slots behind those
  std::vector<std::span<const std::byte>> variables;  // of the module, that it reads
  size_t max_threads = 0;  // of a block: .maxntid; 0: as many as a device takes
  size_t static_shared_bytes = 0;
  size_t local_bytes = 0;                // of a thread
  bool waits_for_previous_grid = false;  // somewhere: griddepcontrol.wait

  size_t SlotCount() const { return kSpecialSlots + constants.size() + register_count; }
};

}  // namespace baton::ptx
