// Runs kernels in PTX on the emulation of CUDA (cuda_emulation/block.h): its blocks, threads,
// barriers, collectives, copies and products, and all that it checks of them; an instruction at a
// time, as the ISA has it.
//
// Beyond that it ends the process at any read or write that is not aligned or not in memory, at
// products whose registers are changed too early, and at a dependent grid's write before its wait.
// Not thread-safe.
#pragma once

#include <cstddef>

#include "tests/support/ptx/kernel.h"

namespace baton::ptx {

// By every thread of a block. `params` as the kernel has laid them out; both must live as long as
// the block runs.
void RunThread(const Kernel& kernel, const std::byte* params);

}  // namespace baton::ptx
