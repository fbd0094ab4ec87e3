// Turns the statements of a kernel's body into its instructions: names of registers, variables,
// parameters and labels become slots, addresses and targets.
#pragma once

#include <cstddef>
#include <cstdint>
#include <map>
#include <span>
#include <string>
#include <string_view>
#include <vector>

#include "tests/support/ptx/kernel.h"

namespace baton::ptx {

struct SharedVariable {
  size_t alignment = 1;
  size_t bytes = 0;
  bool dynamic = false;
};
// What a module declares outside of its kernels.
struct Symbols {
  std::map<std::string, SharedVariable, std::less<>> shared;
  std::map<std::string, std::span<const std::byte>, std::less<>> global;
};

class KernelBuilder {
 public:
  // `symbols` must live as long as this.
  KernelBuilder(Kernel* kernel, const Symbols* symbols);

  void AddParam(std::string_view name, size_t alignment, size_t bytes);
  void OpenScope() { scopes_.emplace_back(); }
  void CloseScope();
  // ".b32 %r<64>" or ".pred a, b"
  void DeclareRegisters(std::string_view declaration);
  void DeclareShared(std::string_view name, const SharedVariable& variable);
  void DeclareLocal(std::string_view name, size_t alignment, size_t bytes);
  void AddLabel(std::string_view label);
  // "@%p1 bra $L__BB0_2"
  void AddInstruction(std::string_view text, const cuda_emulation::Place& where);
  // Once, at the end.
  void Finish();

 private:
  struct Registers {  // %r<64>: `count` of them; 0: one with just that name
    uint32_t first = 0;
    uint32_t count = 0;
  };
  using Scope = std::map<std::string, Registers, std::less<>>;

  void AddOperand(std::string_view operand);
  void AddAddress(std::string_view address);
  void AddSlot(uint32_t slot) { kernel_->slots.push_back(slot); }
  uint32_t SlotOf(std::string_view name);
  // Of a register; false: there is none.
  bool FindRegister(std::string_view name, uint32_t* slot) const;
  uint32_t Constant(uint64_t value);
  uint64_t AddressOf(std::string_view symbol);
  uint32_t Place(uint32_t slot) const;

  Kernel* kernel_;
  const Symbols* symbols_;
  std::vector<Scope> scopes_;
  std::map<uint64_t, uint32_t> constants_;
  std::map<std::string, uint64_t, std::less<>> addresses_;  // params, local, shared in use
  std::map<std::string, uint32_t, std::less<>> labels_;
  std::map<uint32_t, std::string> targets_;  // by instruction
  std::vector<size_t> first_slots_;          // by instruction
};

}  // namespace baton::ptx
