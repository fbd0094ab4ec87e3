// The kernel tables, one file each.
#pragma once

#include "engine/kernels/kernel_table.h"

namespace baton {

extern const KernelTable kAvx2Kernels;
extern const KernelTable kAvx2F32Kernels;
extern const KernelTable kAvx512Kernels;
extern const KernelTable kAvx512F32Kernels;
extern const KernelTable kAvx512Bf16Kernels;

}  // namespace baton
