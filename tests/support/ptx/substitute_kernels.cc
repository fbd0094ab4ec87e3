// Linked into a test of kernels, this makes them run as the PTX that nvcc has made of them.
#include "tests/support/ptx/kernel_files.h"
#include "tests/support/ptx/substitution.h"

namespace {

const bool substituted = (baton::ptx::Substitute(baton::ptx::KernelFiles()), true);

}  // namespace
