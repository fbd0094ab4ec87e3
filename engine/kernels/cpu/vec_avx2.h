// AVX2 vectors of f32 for the kernel files; the same members as Avx512. Internal linkage on
// purpose: see vec_avx512.h.
#pragma once

#include <immintrin.h>

#include <cstdint>

#include "engine/kernels/bf16.h"

namespace baton {
namespace {

struct Avx2 {
  static constexpr int kLanes = 8;
  static constexpr bool kStoresBf16Pairs = false;
  using F = __m256;

  static F Zero() { return _mm256_setzero_ps(); }
  static F Set1(float x) { return _mm256_set1_ps(x); }
  static F Load(const float* p) { return _mm256_loadu_ps(p); }
  static void Store(float* p, F x) { _mm256_storeu_ps(p, x); }
  static F Add(F a, F b) { return _mm256_add_ps(a, b); }
  static F Sub(F a, F b) { return _mm256_sub_ps(a, b); }
  static F Mul(F a, F b) { return _mm256_mul_ps(a, b); }
  static F Div(F a, F b) { return _mm256_div_ps(a, b); }
  static F Max(F a, F b) { return _mm256_max_ps(a, b); }
  static F Min(F a, F b) { return _mm256_min_ps(a, b); }
  static F Fma(F a, F b, F c) { return _mm256_fmadd_ps(a, b, c); }    // a * b + c
  static F Fnma(F a, F b, F c) { return _mm256_fnmadd_ps(a, b, c); }  // c - a * b
  static F Round(F x) { return _mm256_round_ps(x, _MM_FROUND_TO_NEAREST_INT | _MM_FROUND_NO_EXC); }
  // 2^n of whole n in [-126, 127].
  static F Pow2(F n) {
    const __m256i exponent = _mm256_add_epi32(_mm256_cvtps_epi32(n), _mm256_set1_epi32(127));
    return _mm256_castsi256_ps(_mm256_slli_epi32(exponent, 23));
  }
  // 0 in lanes where x < limit; not where x is NaN.
  static F ZeroBelow(F value, F x, float limit) {
    return _mm256_and_ps(_mm256_cmp_ps(x, Set1(limit), _CMP_NLT_UQ), value);
  }
  // `otherwise` in lanes outside of [begin, end).
  static F KeepLanes(F x, int32_t begin, int32_t end, F otherwise) {
    const __m256i lane = _mm256_setr_epi32(0, 1, 2, 3, 4, 5, 6, 7);
    const __m256i drop = _mm256_or_si256(_mm256_cmpgt_epi32(_mm256_set1_epi32(begin), lane),
                                         _mm256_cmpgt_epi32(lane, _mm256_set1_epi32(end - 1)));
    return _mm256_blendv_ps(x, otherwise, _mm256_castsi256_ps(drop));
  }
  // The even lanes of `a`, then those of `b`; the odd ones.
  static F Even(F a, F b) { return InOrder(_mm256_shuffle_ps(a, b, 0x88)); }
  static F Odd(F a, F b) { return InOrder(_mm256_shuffle_ps(a, b, 0xdd)); }
  static float ReduceAdd(F x) {
    const __m128 four = _mm_add_ps(_mm256_castps256_ps128(x), _mm256_extractf128_ps(x, 1));
    const __m128 two = _mm_add_ps(four, _mm_movehl_ps(four, four));
    return _mm_cvtss_f32(_mm_add_ss(two, _mm_movehdup_ps(two)));
  }
  static float ReduceMax(F x) {
    const __m128 four = _mm_max_ps(_mm256_castps256_ps128(x), _mm256_extractf128_ps(x, 1));
    const __m128 two = _mm_max_ps(four, _mm_movehl_ps(four, four));
    return _mm_cvtss_f32(_mm_max_ss(two, _mm_movehdup_ps(two)));
  }

  static F LoadBf16(const Bf16* p) {
    const __m128i half = _mm_loadu_si128(reinterpret_cast<const __m128i*>(p));
    return _mm256_castsi256_ps(_mm256_slli_epi32(_mm256_cvtepu16_epi32(half), 16));
  }
  static void StoreBf16(Bf16* p, F x) {
    const __m256i bits = _mm256_castps_si256(x);
    const __m256i odd = _mm256_and_si256(_mm256_srli_epi32(bits, 16), _mm256_set1_epi32(1));
    const __m256i rounded = _mm256_srli_epi32(
        _mm256_add_epi32(bits, _mm256_add_epi32(odd, _mm256_set1_epi32(0x7fff))), 16);
    const __m128i packed =
        _mm_packus_epi32(_mm256_castsi256_si128(rounded), _mm256_extracti128_si256(rounded, 1));
    _mm_storeu_si128(reinterpret_cast<__m128i*>(p), packed);
  }
  static F LoadInt8(const int8_t* p) {
    return _mm256_cvtepi32_ps(
        _mm256_cvtepi8_epi32(_mm_loadl_epi64(reinterpret_cast<const __m128i*>(p))));
  }
  // Of whole numbers in [-128, 127].
  static void StoreInt8(int8_t* p, F x) {
    const __m256i wide = _mm256_cvtps_epi32(x);
    const __m128i halves =
        _mm_packs_epi32(_mm256_castsi256_si128(wide), _mm256_extracti128_si256(wide, 1));
    _mm_storel_epi64(reinterpret_cast<__m128i*>(p), _mm_packs_epi16(halves, halves));
  }

  // Transposes a kLanes x kLanes square of 32-bit elements; strides in elements.
  static void Transpose(const uint32_t* source, int64_t source_stride, uint32_t* target,
                        int64_t target_stride) {
    __m256 a[8];
    __m256 b[8];
#pragma GCC unroll 8
    for (int i = 0; i < 8; ++i) {
      a[i] = _mm256_loadu_ps(reinterpret_cast<const float*>(source + i * source_stride));
    }
#pragma GCC unroll 4
    for (int i = 0; i < 8; i += 2) {
      b[i] = _mm256_unpacklo_ps(a[i], a[i + 1]);
      b[i + 1] = _mm256_unpackhi_ps(a[i], a[i + 1]);
    }
#pragma GCC unroll 2
    for (int i = 0; i < 8; i += 4) {
      a[i] = _mm256_shuffle_ps(b[i], b[i + 2], 0x44);
      a[i + 1] = _mm256_shuffle_ps(b[i], b[i + 2], 0xee);
      a[i + 2] = _mm256_shuffle_ps(b[i + 1], b[i + 3], 0x44);
      a[i + 3] = _mm256_shuffle_ps(b[i + 1], b[i + 3], 0xee);
    }
    // Now a[4 * g + c], 128-bit lane q: column 4 * q + c of rows 4 * g … 4 * g + 3.
#pragma GCC unroll 4
    for (int c = 0; c < 4; ++c) {
      float* out = reinterpret_cast<float*>(target + c * target_stride);
      _mm256_storeu_ps(out, _mm256_permute2f128_ps(a[c], a[4 + c], 0x20));
      _mm256_storeu_ps(out + 4 * target_stride, _mm256_permute2f128_ps(a[c], a[4 + c], 0x31));
    }
  }

 private:
  // Swaps the middle quarters: _mm256_shuffle_ps works on halves.
  static F InOrder(F x) {
    return _mm256_castpd_ps(_mm256_permute4x64_pd(_mm256_castps_pd(x), 0xd8));
  }
};

}  // namespace
}  // namespace baton
