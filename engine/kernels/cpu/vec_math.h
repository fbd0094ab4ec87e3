// Functions over the vectors of vec_*.h. Internal linkage on purpose: see vec_avx512.h.
#pragma once

#include <cstdint>

#include "engine/kernels/bf16.h"

namespace baton {
namespace {

// e^x within 2 units in the last place; 0 below -87.3 (also for -infinity), e^88 above 88,
// NaN of a NaN: the instructions for the least and the most give their second input then.
// Cephes' expf: x = n * ln 2 + r, a polynomial for e^r, times 2^n.
template <typename V>
typename V::F Exp(typename V::F x) {
  using F = typename V::F;
  const F bounded = V::Min(V::Set1(88.0f), V::Max(V::Set1(-87.3f), x));
  const F n = V::Round(V::Mul(bounded, V::Set1(1.44269504088896341f)));
  F r = V::Fnma(n, V::Set1(0.693359375f), bounded);
  r = V::Fnma(n, V::Set1(-2.12194440e-4f), r);
  F p = V::Set1(1.9875691500e-4f);
  p = V::Fma(p, r, V::Set1(1.3981999507e-3f));
  p = V::Fma(p, r, V::Set1(8.3334519073e-3f));
  p = V::Fma(p, r, V::Set1(4.1665795894e-2f));
  p = V::Fma(p, r, V::Set1(1.6666665459e-1f));
  p = V::Fma(p, r, V::Set1(5.0000001201e-1f));
  const F e = V::Add(V::Fma(p, V::Mul(r, r), r), V::Set1(1.0f));
  return V::ZeroBelow(V::Mul(e, V::Pow2(n)), x, -87.3f);
}

// e^x of one number, with the bits that Exp gives each lane.
template <typename V>
float ExpScalar(float x) {
  float lanes[V::kLanes];
  V::Store(lanes, Exp<V>(V::Set1(x)));
  return lanes[0];
}

// Stores one number or one vector as the element type of the target.
template <typename V>
void StoreAs(float* target, typename V::F x) {
  V::Store(target, x);
}
template <typename V>
void StoreAs(Bf16* target, typename V::F x) {
  V::StoreBf16(target, x);
}
// Two vectors, one behind the other.
template <typename V, typename To>
void StorePairAs(To* target, typename V::F x, typename V::F y) {
  if constexpr (V::kStoresBf16Pairs && sizeof(To) == sizeof(Bf16)) {
    V::StoreBf16Pair(target, x, y);
  } else {
    StoreAs<V>(target, x);
    StoreAs<V>(target + V::kLanes, y);
  }
}
inline void StoreScalar(float* target, float x) { *target = x; }
inline void StoreScalar(Bf16* target, float x) { *target = ToBf16(x); }

template <typename V>
typename V::F LoadAs(const float* source) {
  return V::Load(source);
}
template <typename V>
typename V::F LoadAs(const Bf16* source) {
  return V::LoadBf16(source);
}
inline float LoadScalar(const float* source) { return *source; }
inline float LoadScalar(const Bf16* source) { return ToFloat(*source); }

}  // namespace
}  // namespace baton
