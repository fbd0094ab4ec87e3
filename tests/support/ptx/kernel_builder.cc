#include "tests/support/ptx/kernel_builder.h"

#include <algorithm>
#include <charconv>
#include <utility>

#include "tests/support/cuda_emulation/shared_memory.h"
#include "tests/support/cuda_emulation/warpgroup.h"
#include "tests/support/ptx/memory_spaces.h"
#include "tests/support/ptx/opcodes.h"
#include "tests/support/ptx/parser.h"
#include "tests/support/ptx/scanner.h"

namespace baton::ptx {

namespace {

// Until all constants are known, where registers lie is not.
constexpr uint32_t kRegister = 0x80000000u;

size_t AlignUp(size_t offset, size_t alignment) {
  return (offset + alignment - 1) / alignment * alignment;
}

// Aligned as far as is asked for and no further, apart from what lies before.
size_t PlaceBehind(size_t end, size_t alignment) {
  constexpr size_t kGap = 16;
  const size_t offset = AlignUp(end + kGap, alignment);
  return offset % (2 * alignment) == 0 ? offset + alignment : offset;
}

bool IsNumber(std::string_view text) {
  return !text.empty() && (text[0] == '-' || (text[0] >= '0' && text[0] <= '9'));
}

// "-12", "0x1f", "0f3F800000" and "0d3FF0000000000000": floating point as bits.
uint64_t Number(std::string_view text) {
  const std::string_view whole = text;
  const bool negative = text.starts_with('-');
  if (negative) text.remove_prefix(1);
  int base = 10;
  for (const char* prefix : {"0x", "0f", "0d"}) {
    if (!text.starts_with(prefix)) continue;
    text.remove_prefix(2);
    base = 16;
    break;
  }
  if (text.ends_with('U')) text.remove_suffix(1);
  uint64_t value = 0;
  const auto [end, error] = std::from_chars(text.data(), text.data() + text.size(), value, base);
  if (error != std::errc() || end != text.data() + text.size()) {
    throw SyntaxError("not a number: " + std::string(whole));
  }
  return negative ? 0 - value : value;
}

// mov has one name for three things.
std::string OpcodeOf(std::string_view name, const std::vector<std::string_view>& operands) {
  std::string opcode(name);
  if (!name.starts_with("mov.") || operands.size() != 2) return opcode;
  if (operands[0].starts_with('{')) return opcode + " unpack";
  if (operands[1].starts_with('{')) return opcode + " pack";
  return opcode;
}

// Instructions that have forms of the same name with more or fewer operands.
void CheckOperands(std::string_view opcode, const Instruction& instruction) {
  constexpr std::pair<std::string_view, uint32_t> kSlots[] = {
      {"setp.", 3},        {"bar.sync", 1},  {"bar.red.", 3}, {"bar.warp.sync", 1},
      {"cp.async.cg.", 6}, {"ldmatrix.", 6}, {"mma.", 14},    {"vote.sync.", 3}};
  for (const auto& [prefix, slots] : kSlots) {
    if (opcode.starts_with(prefix) && instruction.count != slots) {
      throw SyntaxError("operands of another number: " + std::string(instruction.text));
    }
  }
}

}  // namespace

KernelBuilder::KernelBuilder(Kernel* kernel, const Symbols* symbols)
    : kernel_(kernel), symbols_(symbols), scopes_(1) {}

void KernelBuilder::AddParam(std::string_view name, size_t alignment, size_t bytes) {
  size_t offset = 0;
  if (!kernel_->params.empty()) {
    offset = AlignUp(kernel_->params.back().offset + kernel_->params.back().bytes, alignment);
  }
  kernel_->params.push_back({offset, bytes});
  addresses_.emplace(name, offset);
}

void KernelBuilder::CloseScope() {
  if (scopes_.size() == 1) throw SyntaxError("a scope that was not opened");
  scopes_.pop_back();
}

void KernelBuilder::DeclareRegisters(std::string_view declaration) {
  const size_t names = declaration.find_first_of(" \t");
  for (std::string_view name : SplitAtCommas(declaration.substr(names))) {
    Registers registers{static_cast<uint32_t>(kernel_->register_count), 0};
    if (const size_t bracket = name.find('<'); bracket != std::string_view::npos) {
      const std::string_view count = name.substr(bracket + 1, name.size() - bracket - 2);
      registers.count = static_cast<uint32_t>(Number(count));
      name = name.substr(0, bracket);
    }
    kernel_->register_count += std::max(registers.count, 1u);
    scopes_.back().insert_or_assign(std::string(name), registers);
  }
}

void KernelBuilder::DeclareShared(std::string_view name, const SharedVariable& variable) {
  if (variable.dynamic) {
    addresses_.emplace(name, cuda_emulation::SharedAddress(cuda_emulation::SharedMemory()));
    return;
  }
  const size_t offset = PlaceBehind(kernel_->static_shared_bytes, variable.alignment);
  kernel_->static_shared_bytes = offset + variable.bytes;
  addresses_.emplace(name, kStaticSharedBase + offset);
}

void KernelBuilder::DeclareLocal(std::string_view name, size_t alignment, size_t bytes) {
  const size_t offset = PlaceBehind(kernel_->local_bytes, alignment);
  kernel_->local_bytes = offset + bytes;
  addresses_.emplace(name, offset);
}

void KernelBuilder::AddLabel(std::string_view label) {
  if (!labels_.emplace(label, kernel_->code.size()).second) {
    throw SyntaxError("two labels: " + std::string(label));
  }
}

void KernelBuilder::AddInstruction(std::string_view text, const cuda_emulation::Place& where) {
  Instruction instruction{.text = text, .where = where};
  std::string_view rest = text;
  if (rest.starts_with('@')) {
    instruction.guard_is_negated = rest.starts_with("@!");
    rest.remove_prefix(instruction.guard_is_negated ? 2 : 1);
    const size_t end = rest.find_first_of(" \t");
    instruction.guard = SlotOf(rest.substr(0, end));
    rest = Trimmed(rest.substr(end));
  }
  const size_t name_length = std::min(rest.find_first_of(" \t{"), rest.size());
  const std::vector<std::string_view> operands = SplitAtCommas(rest.substr(name_length));
  const std::string opcode = OpcodeOf(rest.substr(0, name_length), operands);
  instruction.run = KnownOpcodes().Find(opcode);
  if (instruction.run == nullptr) throw SyntaxError("unknown instruction: " + std::string(text));
  if (opcode == "griddepcontrol.wait") kernel_->waits_for_previous_grid = true;
  first_slots_.push_back(kernel_->slots.size());
  if (opcode.starts_with("bra")) {
    targets_.emplace(static_cast<uint32_t>(kernel_->code.size()), operands.at(0));
  } else {
    for (const std::string_view operand : operands) AddOperand(operand);
  }
  instruction.count = static_cast<uint32_t>(kernel_->slots.size() - first_slots_.back());
  CheckOperands(opcode, instruction);
  kernel_->code.push_back(instruction);
}

void KernelBuilder::AddOperand(std::string_view operand) {
  if (operand.starts_with('{')) {
    for (const std::string_view part : SplitAtCommas(operand.substr(1, operand.size() - 2))) {
      AddOperand(part);
    }
  } else if (operand.starts_with('[')) {
    AddAddress(operand.substr(1, operand.size() - 2));
  } else if (const size_t bar = operand.find('|'); bar != std::string_view::npos) {
    AddOperand(Trimmed(operand.substr(0, bar)));
    AddOperand(Trimmed(operand.substr(bar + 1)));
  } else {
    AddSlot(SlotOf(operand));
  }
}

void KernelBuilder::AddAddress(std::string_view address) {
  const size_t plus = address.find('+');
  AddSlot(SlotOf(Trimmed(address.substr(0, plus))));
  AddSlot(Constant(plus == std::string_view::npos ? 0 : Number(address.substr(plus + 1))));
}

uint32_t KernelBuilder::SlotOf(std::string_view name) {
  if (IsNumber(name)) return Constant(Number(name));
  uint32_t slot = 0;
  if (FindRegister(name, &slot)) return slot;
  const auto* special = std::find(std::begin(kSpecialRegisters), std::end(kSpecialRegisters), name);
  if (special != std::end(kSpecialRegisters)) {
    return static_cast<uint32_t>(special - std::begin(kSpecialRegisters));
  }
  return Constant(AddressOf(name));
}

bool KernelBuilder::FindRegister(std::string_view name, uint32_t* slot) const {
  const size_t digits = name.find_last_not_of("0123456789") + 1;
  for (auto scope = scopes_.rbegin(); scope != scopes_.rend(); ++scope) {
    if (const auto whole = scope->find(name); whole != scope->end() && whole->second.count == 0) {
      *slot = kRegister | whole->second.first;
      return true;
    }
    const auto numbered = scope->find(name.substr(0, digits));
    if (numbered == scope->end() || digits == name.size()) continue;
    const uint64_t number = Number(name.substr(digits));
    if (number >= numbered->second.count) continue;
    *slot = kRegister | (numbered->second.first + static_cast<uint32_t>(number));
    return true;
  }
  return false;
}

uint32_t KernelBuilder::Constant(uint64_t value) {
  const auto next = static_cast<uint32_t>(kSpecialSlots + kernel_->constants.size());
  const auto [found, is_new] = constants_.emplace(value, next);
  if (is_new) kernel_->constants.push_back(value);
  return found->second;
}

uint64_t KernelBuilder::AddressOf(std::string_view symbol) {
  if (const auto found = addresses_.find(symbol); found != addresses_.end()) return found->second;
  if (const auto shared = symbols_->shared.find(symbol); shared != symbols_->shared.end()) {
    DeclareShared(symbol, shared->second);
    return addresses_.find(symbol)->second;
  }
  const auto global = symbols_->global.find(symbol);
  if (global == symbols_->global.end()) {
    throw SyntaxError("unknown name: " + std::string(symbol));
  }
  kernel_->variables.push_back(global->second);
  return addresses_.emplace(symbol, reinterpret_cast<uint64_t>(global->second.data()))
      .first->second;
}

uint32_t KernelBuilder::Place(uint32_t slot) const {
  if (slot == Instruction::kUnguarded || (slot & kRegister) == 0) return slot;
  return static_cast<uint32_t>(kSpecialSlots + kernel_->constants.size()) + (slot & ~kRegister);
}

void KernelBuilder::Finish() {
  AddInstruction("ret", {});  // where the last one is not
  for (const auto& [instruction, label] : targets_) {
    const auto found = labels_.find(label);
    if (found == labels_.end()) throw SyntaxError("no label: " + label);
    kernel_->code[instruction].target = found->second;
  }
  for (uint32_t& slot : kernel_->slots) slot = Place(slot);
  for (size_t i = 0; i < kernel_->code.size(); ++i) {
    Instruction& instruction = kernel_->code[i];
    instruction.guard = Place(instruction.guard);
    instruction.slots = kernel_->slots.data() + first_slots_[i];
  }
}

}  // namespace baton::ptx
