// Compiled with -mavx2 -mfma.
#include "engine/kernels/cpu/make_table.h"
#include "engine/kernels/cpu/tables.h"
#include "engine/kernels/cpu/vec_avx2.h"

namespace baton {
namespace {

template <typename Weight>
using Multiply2 = FmaMultiply<Avx2, Weight, 2>;

struct Int8Avx2 {
  using V = Avx2;
  using I = __m256i;
  static constexpr int kMaxRows = 2;
  static constexpr int kMaxVectors = 2;
  static I LoadLevels(const uint8_t* p) {
    return _mm256_loadu_si256(reinterpret_cast<const __m256i*>(p));
  }
  static I LowNibbles(I x) { return _mm256_and_si256(x, _mm256_set1_epi8(15)); }
  static I HighNibbles(I x) { return LowNibbles(_mm256_srli_epi16(x, 4)); }
  static I SetInt(int32_t x) { return _mm256_set1_epi32(x); }
  static I Quads(const int8_t* p) {
    int32_t quad;
    __builtin_memcpy(&quad, p, sizeof(quad));
    return _mm256_set1_epi32(quad);
  }
  // Of levels below 16, whose pairs of products fit into 16 bits.
  static I DotSmall(I levels, I quants) {
    return _mm256_madd_epi16(_mm256_maddubs_epi16(levels, quants), _mm256_set1_epi16(1));
  }
  static I Add(I x, I y) { return _mm256_add_epi32(x, y); }
  static I TimesSixteen(I x) { return _mm256_slli_epi32(x, 4); }
  static V::F ToFloat(I x) { return _mm256_cvtepi32_ps(x); }
};
using Int8Multiply = NibbleMultiply<Int8Avx2>;

}  // namespace

constinit const KernelTable kAvx2Kernels =
    MakeTable<Multiply2<Bf16>, Int8Multiply, Multiply2<float>, Bf16>(Isa::kAvx2);
constinit const KernelTable kAvx2F32Kernels =
    MakeTable<Multiply2<float>, Int8Multiply, Multiply2<float>, float>(Isa::kAvx2);

}  // namespace baton
