// What all AVX-512 multiply types of quantized weights share (see quantized_impl.h). Internal
// linkage on purpose: see vec_avx512.h.
#pragma once

#include <immintrin.h>

#include <cstdint>

#include "engine/kernels/cpu/vec_avx512.h"

namespace baton {
namespace {

struct Int8Avx512 {
  using V = Avx512;
  using I = __m512i;
  static constexpr int kMaxRows = 3;
  static constexpr int kMaxVectors = 4;
  static I LoadLevels(const uint8_t* p) { return _mm512_loadu_si512(p); }
  static I LowNibbles(I x) { return _mm512_and_si512(x, _mm512_set1_epi8(15)); }
  static I HighNibbles(I x) { return LowNibbles(_mm512_srli_epi16(x, 4)); }
  static I SetInt(int32_t x) { return _mm512_set1_epi32(x); }
  static I Quads(const int8_t* p) {
    int32_t quad;
    __builtin_memcpy(&quad, p, sizeof(quad));
    return _mm512_set1_epi32(quad);
  }
  static V::F ToFloat(I x) { return _mm512_cvtepi32_ps(x); }
};

}  // namespace
}  // namespace baton
