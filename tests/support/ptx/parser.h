// Reads a module in PTX as nvcc writes it, of PTX ISA 7.0 to 9.0. Kernels (.entry) alone: all of
// their functions are to be inlined. What is not known throws a SyntaxError; nothing is passed over
// but what says nothing of results: debug information, hints about blocks and unrolling.
#pragma once

#include <cstddef>
#include <memory>
#include <string>
#include <vector>

#include "tests/support/ptx/kernel.h"
#include "tests/support/ptx/scanner.h"

namespace baton::ptx {

struct Variable {
  std::string name;
  std::vector<std::byte> memory;
};

struct Module {
  std::string text;                // instructions refer to it
  std::vector<std::string> files;  // of the CUDA C++, by their number; may be empty
  std::vector<std::unique_ptr<Variable>> variables;  // .global
  std::vector<std::unique_ptr<Kernel>> kernels;
};

std::unique_ptr<Module> Parse(std::string text);

}  // namespace baton::ptx
