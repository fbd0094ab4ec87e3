// Compiled with the flags of table_avx512.cc, -mavx512bf16 and -mavx512vnni.
#include "engine/kernels/cpu/int8_avx512.h"
#include "engine/kernels/cpu/make_table.h"
#include "engine/kernels/cpu/tables.h"
#include "engine/kernels/cpu/vec_avx512.h"

namespace baton {
namespace {

struct Avx512Bf16 : Avx512 {
  static constexpr bool kStoresBf16Pairs = true;
  static void StoreBf16Pair(Bf16* p, F x, F y) {
    _mm512_storeu_si512(p, reinterpret_cast<__m512i>(_mm512_cvtne2ps_pbh(y, x)));
  }
  static void StoreBf16(Bf16* p, F x) {
    _mm256_storeu_si256(reinterpret_cast<__m256i*>(p),
                        reinterpret_cast<__m256i>(_mm512_cvtneps_pbh(x)));
  }
};

// vdpbf16ps: pairs of bf16 products summed into f32.
struct Bf16Multiply {
  using V = Avx512Bf16;
  using A = Bf16;
  using B = Bf16;
  using BVec = __m512bh;
  static constexpr int kStep = 2;
  static constexpr int kMaxRows = 6;
  static constexpr int kMaxVectors = 4;
  static BVec LoadB(const Bf16* p) { return reinterpret_cast<__m512bh>(_mm512_loadu_si512(p)); }
  static __m512bh Broadcast(const Bf16* p) {
    int32_t pair;
    __builtin_memcpy(&pair, p, sizeof(pair));
    return reinterpret_cast<__m512bh>(_mm512_set1_epi32(pair));
  }
  static V::F Dot(V::F c, __m512bh a, BVec b) { return _mm512_dpbf16_ps(c, a, b); }
  static const Bf16* Interleave(const Bf16* rows, int32_t width, Bf16* out) {
    for (int32_t row = 0; row < kAttentionTile; row += 2) {
      const Bf16* even = rows + static_cast<int64_t>(row) * width;
      const Bf16* odd = even + width;
      for (int32_t i = 0; i < width; i += V::kLanes) {
        const __m512i low =
            _mm512_cvtepu16_epi32(_mm256_loadu_si256(reinterpret_cast<const __m256i*>(even + i)));
        const __m512i high =
            _mm512_cvtepu16_epi32(_mm256_loadu_si256(reinterpret_cast<const __m256i*>(odd + i)));
        _mm512_storeu_si512(out + static_cast<int64_t>(row) * width + int64_t{2} * i,
                            _mm512_or_si512(low, _mm512_slli_epi32(high, 16)));
      }
    }
    return out;
  }
};

// vpdpbusd: quads of products of unsigned and signed bytes summed into int32. By hand, because
// g++ 12 copies registers around its intrinsic, which doubles the time.
struct VnniMultiply : Int8Avx512 {
  template <bool kInt4>
  static I Dot(I sum, I levels, I quants) {
    __asm__("vpdpbusd %2, %1, %0" : "+v"(sum) : "v"(levels), "v"(quants));
    return sum;
  }
};

}  // namespace

constinit const KernelTable kAvx512Bf16Kernels =
    MakeTable<Bf16Multiply, VnniMultiply, Bf16Multiply, Bf16>(Isa::kAvx512Bf16);

}  // namespace baton
