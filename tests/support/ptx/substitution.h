// Kernels of the emulation run what nvcc has made of them: launches go by the address of a kernel
// that g++ has compiled; its name, in the executable's symbol table, is that of the one in PTX.
#pragma once

#include <memory>
#include <string>
#include <string_view>
#include <vector>

#include "tests/support/ptx/parser.h"

namespace baton::ptx {

// From now on, for all launches of the process. A kernel that is in none of the files ends it, as
// do arguments of other sizes than its parameters. Throws SyntaxError, which names the file.
void Substitute(const std::vector<std::string>& files);
// That were substituted; they live as long as the process.
const std::vector<std::unique_ptr<Module>>& SubstitutedModules();

// The name of a kernel in an anonymous namespace as g++ has it: nvcc names that after the file.
std::string WithoutFileNames(std::string_view mangled);

}  // namespace baton::ptx
