// AVX-512 vectors of f32 for the kernel files. Included only by files that are compiled with the
// flags for it; internal linkage on purpose, so that no copy made with those flags can be linked
// into code for older CPUs. For the same reason nothing of the standard library is used here.
#pragma once

#include <immintrin.h>

#include <cstdint>

#include "engine/kernels/bf16.h"

namespace baton {
namespace {

struct Avx512 {
  static constexpr int kLanes = 16;
  static constexpr bool kStoresBf16Pairs = false;
  using F = __m512;

  static F Zero() { return _mm512_setzero_ps(); }
  static F Set1(float x) { return _mm512_set1_ps(x); }
  static F Load(const float* p) { return _mm512_loadu_ps(p); }
  static void Store(float* p, F x) { _mm512_storeu_ps(p, x); }
  static F Add(F a, F b) { return _mm512_add_ps(a, b); }
  static F Sub(F a, F b) { return _mm512_sub_ps(a, b); }
  static F Mul(F a, F b) { return _mm512_mul_ps(a, b); }
  static F Div(F a, F b) { return _mm512_div_ps(a, b); }
  static F Max(F a, F b) { return _mm512_max_ps(a, b); }
  static F Min(F a, F b) { return _mm512_min_ps(a, b); }
  static F Fma(F a, F b, F c) { return _mm512_fmadd_ps(a, b, c); }    // a * b + c
  static F Fnma(F a, F b, F c) { return _mm512_fnmadd_ps(a, b, c); }  // c - a * b
  static F Round(F x) {
    return _mm512_roundscale_ps(x, _MM_FROUND_TO_NEAREST_INT | _MM_FROUND_NO_EXC);
  }
  // 2^n of whole n in [-126, 127].
  static F Pow2(F n) {
    const __m512i exponent = _mm512_add_epi32(_mm512_cvtps_epi32(n), _mm512_set1_epi32(127));
    return _mm512_castsi512_ps(_mm512_slli_epi32(exponent, 23));
  }
  // 0 in lanes where x < limit; not where x is NaN.
  static F ZeroBelow(F value, F x, float limit) {
    return _mm512_maskz_mov_ps(_mm512_cmp_ps_mask(x, Set1(limit), _CMP_NLT_UQ), value);
  }
  // `otherwise` in lanes outside of [begin, end).
  static F KeepLanes(F x, int32_t begin, int32_t end, F otherwise) {
    const __mmask16 keep = _mm512_cmpge_epi32_mask(LaneNumbers(), _mm512_set1_epi32(begin)) &
                           _mm512_cmplt_epi32_mask(LaneNumbers(), _mm512_set1_epi32(end));
    return _mm512_mask_mov_ps(otherwise, keep, x);
  }
  // The even lanes of `a`, then those of `b`; the odd ones.
  static F Even(F a, F b) {
    return _mm512_permutex2var_ps(a, _mm512_slli_epi32(LaneNumbers(), 1), b);
  }
  static F Odd(F a, F b) {
    const __m512i even = _mm512_slli_epi32(LaneNumbers(), 1);
    return _mm512_permutex2var_ps(a, _mm512_or_si512(even, _mm512_set1_epi32(1)), b);
  }
  static float ReduceAdd(F x) { return _mm512_reduce_add_ps(x); }
  static float ReduceMax(F x) { return _mm512_reduce_max_ps(x); }

  static F LoadBf16(const Bf16* p) {
    const __m256i half = _mm256_loadu_si256(reinterpret_cast<const __m256i*>(p));
    return _mm512_castsi512_ps(_mm512_slli_epi32(_mm512_cvtepu16_epi32(half), 16));
  }
  static void StoreBf16(Bf16* p, F x) {
    const __m512i bits = _mm512_castps_si512(x);
    const __m512i odd = _mm512_and_si512(_mm512_srli_epi32(bits, 16), _mm512_set1_epi32(1));
    const __m512i rounded =
        _mm512_add_epi32(bits, _mm512_add_epi32(odd, _mm512_set1_epi32(0x7fff)));
    _mm256_storeu_si256(reinterpret_cast<__m256i*>(p),
                        _mm512_cvtepi32_epi16(_mm512_srli_epi32(rounded, 16)));
  }
  static F LoadInt8(const int8_t* p) {
    return _mm512_cvtepi32_ps(
        _mm512_cvtepi8_epi32(_mm_loadu_si128(reinterpret_cast<const __m128i*>(p))));
  }
  // Of whole numbers in [-128, 127].
  static void StoreInt8(int8_t* p, F x) {
    _mm_storeu_si128(reinterpret_cast<__m128i*>(p), _mm512_cvtepi32_epi8(_mm512_cvtps_epi32(x)));
  }

  // Transposes a kLanes x kLanes square of 32-bit elements; strides in elements.
  static void Transpose(const uint32_t* source, int64_t source_stride, uint32_t* target,
                        int64_t target_stride) {
    __m512i a[16];
    __m512i b[16];
#pragma GCC unroll 16
    for (int i = 0; i < 16; ++i) a[i] = _mm512_loadu_si512(source + i * source_stride);
#pragma GCC unroll 8
    for (int i = 0; i < 16; i += 2) {
      b[i] = _mm512_unpacklo_epi32(a[i], a[i + 1]);
      b[i + 1] = _mm512_unpackhi_epi32(a[i], a[i + 1]);
    }
#pragma GCC unroll 4
    for (int i = 0; i < 16; i += 4) {
      a[i] = _mm512_unpacklo_epi64(b[i], b[i + 2]);
      a[i + 1] = _mm512_unpackhi_epi64(b[i], b[i + 2]);
      a[i + 2] = _mm512_unpacklo_epi64(b[i + 1], b[i + 3]);
      a[i + 3] = _mm512_unpackhi_epi64(b[i + 1], b[i + 3]);
    }
    // Now a[4 * g + c], 128-bit lane q: column 4 * q + c of rows 4 * g … 4 * g + 3.
#pragma GCC unroll 4
    for (int c = 0; c < 4; ++c) {
      const __m512i even01 = _mm512_shuffle_i32x4(a[c], a[4 + c], 0x88);
      const __m512i odd01 = _mm512_shuffle_i32x4(a[c], a[4 + c], 0xdd);
      const __m512i even23 = _mm512_shuffle_i32x4(a[8 + c], a[12 + c], 0x88);
      const __m512i odd23 = _mm512_shuffle_i32x4(a[8 + c], a[12 + c], 0xdd);
      uint32_t* out = target + c * target_stride;
      _mm512_storeu_si512(out, _mm512_shuffle_i32x4(even01, even23, 0x88));
      _mm512_storeu_si512(out + 4 * target_stride, _mm512_shuffle_i32x4(odd01, odd23, 0x88));
      _mm512_storeu_si512(out + 8 * target_stride, _mm512_shuffle_i32x4(even01, even23, 0xdd));
      _mm512_storeu_si512(out + 12 * target_stride, _mm512_shuffle_i32x4(odd01, odd23, 0xdd));
    }
  }

 private:
  static __m512i LaneNumbers() {
    return _mm512_setr_epi32(0, 1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12, 13, 14, 15);
  }
};

}  // namespace
}  // namespace baton
