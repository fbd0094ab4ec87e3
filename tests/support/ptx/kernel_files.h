// Files of PTX: all CUDA kernels, of compute capability 9.0a.
#pragma once

#include <string>
#include <vector>

namespace baton::ptx {

std::vector<std::string> KernelFiles();

}  // namespace baton::ptx
