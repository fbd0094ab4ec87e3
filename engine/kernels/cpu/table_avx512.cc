// Compiled with -mavx512f -mavx512bw -mavx512vl -mavx512dq -mfma.
#include "engine/kernels/cpu/int8_avx512.h"
#include "engine/kernels/cpu/make_table.h"
#include "engine/kernels/cpu/tables.h"
#include "engine/kernels/cpu/vec_avx512.h"

namespace baton {
namespace {

template <typename Weight>
using Multiply4 = FmaMultiply<Avx512, Weight, 4>;

struct Int8Multiply : Int8Avx512 {
  // Of levels below 16, whose pairs of products fit into 16 bits.
  static I DotSmall(I levels, I quants) {
    return _mm512_madd_epi16(_mm512_maddubs_epi16(levels, quants), _mm512_set1_epi16(1));
  }
  template <bool kInt4>
  static I Dot(I sum, I levels, I quants) {
    if constexpr (kInt4) return _mm512_add_epi32(sum, DotSmall(levels, quants));
    const I high = _mm512_slli_epi32(DotSmall(HighNibbles(levels), quants), 4);
    return _mm512_add_epi32(sum, _mm512_add_epi32(high, DotSmall(LowNibbles(levels), quants)));
  }
};

}  // namespace

constinit const KernelTable kAvx512Kernels =
    MakeTable<Multiply4<Bf16>, Int8Multiply, Multiply4<float>, Bf16>(Isa::kAvx512);
constinit const KernelTable kAvx512F32Kernels =
    MakeTable<Multiply4<float>, Int8Multiply, Multiply4<float>, float>(Isa::kAvx512);

}  // namespace baton
