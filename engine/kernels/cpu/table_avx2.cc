// Compiled with -mavx2 -mfma.
#include "engine/kernels/cpu/make_table.h"
#include "engine/kernels/cpu/tables.h"
#include "engine/kernels/cpu/vec_avx2.h"

namespace baton {
namespace {

template <typename Weight>
using Multiply2 = FmaMultiply<Avx2, Weight, 2>;

}  // namespace

constinit const KernelTable kAvx2Kernels =
    MakeTable<Multiply2<Bf16>, Multiply2<float>, Bf16>(Isa::kAvx2, false);
constinit const KernelTable kAvx2F32Kernels =
    MakeTable<Multiply2<float>, Multiply2<float>, float>(Isa::kAvx2, true);

}  // namespace baton
