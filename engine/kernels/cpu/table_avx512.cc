// Compiled with -mavx512f -mavx512bw -mavx512vl -mavx512dq -mfma.
#include "engine/kernels/cpu/make_table.h"
#include "engine/kernels/cpu/tables.h"
#include "engine/kernels/cpu/vec_avx512.h"

namespace baton {
namespace {

template <typename Weight>
using Multiply4 = FmaMultiply<Avx512, Weight, 4>;

}  // namespace

constinit const KernelTable kAvx512Kernels =
    MakeTable<Multiply4<Bf16>, Multiply4<float>, Bf16>(Isa::kAvx512, false);
constinit const KernelTable kAvx512F32Kernels =
    MakeTable<Multiply4<float>, Multiply4<float>, float>(Isa::kAvx512, true);

}  // namespace baton
