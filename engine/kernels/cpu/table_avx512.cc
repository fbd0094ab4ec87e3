// Compiled with -mavx512f -mavx512bw -mavx512vl -mavx512dq -mfma.
#include "engine/kernels/cpu/int8_avx512.h"
#include "engine/kernels/cpu/make_table.h"
#include "engine/kernels/cpu/tables.h"
#include "engine/kernels/cpu/vec_avx512.h"

namespace baton {
namespace {

template <typename Weight>
using Multiply4 = FmaMultiply<Avx512, Weight, 4>;

struct Int8Avx512Bw : Int8Avx512 {
  // Of levels below 16, whose pairs of products fit into 16 bits.
  static I DotSmall(I levels, I quants) {
    return _mm512_madd_epi16(_mm512_maddubs_epi16(levels, quants), _mm512_set1_epi16(1));
  }
  static I Add(I x, I y) { return _mm512_add_epi32(x, y); }
  static I TimesSixteen(I x) { return _mm512_slli_epi32(x, 4); }
};
using Int8Multiply = NibbleMultiply<Int8Avx512Bw>;

}  // namespace

constinit const KernelTable kAvx512Kernels =
    MakeTable<Multiply4<Bf16>, Int8Multiply, Multiply4<float>, Bf16>(Isa::kAvx512);
constinit const KernelTable kAvx512F32Kernels =
    MakeTable<Multiply4<float>, Int8Multiply, Multiply4<float>, float>(Isa::kAvx512);

}  // namespace baton
