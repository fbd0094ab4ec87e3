// The instructions that the interpreter knows, by all of their name: "ld.global.v4.u32". One that
// is not here, or has a modifier that is not, is refused when a kernel is parsed.
#pragma once

#include <functional>
#include <map>
#include <string>
#include <string_view>

#include "tests/support/ptx/kernel.h"

namespace baton::ptx {

class Opcodes {
 public:
  void Add(std::string name, Run run) { runs_.emplace(std::move(name), run); }
  // Null: not known.
  Run Find(std::string_view name) const {
    const auto found = runs_.find(name);
    return found == runs_.end() ? nullptr : found->second;
  }

 private:
  std::map<std::string, Run, std::less<>> runs_;
};

void AddArithmetic(Opcodes& opcodes);
void AddBitOperations(Opcodes& opcodes);
void AddComparisons(Opcodes& opcodes);
void AddConversions(Opcodes& opcodes);
void AddControl(Opcodes& opcodes);
void AddMemoryAccesses(Opcodes& opcodes);
void AddAtomics(Opcodes& opcodes);
void AddCopies(Opcodes& opcodes);
void AddCollectives(Opcodes& opcodes);
void AddMatrixOperations(Opcodes& opcodes);
void AddWarpgroupProducts(Opcodes& opcodes);

// All of them.
const Opcodes& KnownOpcodes();

}  // namespace baton::ptx
