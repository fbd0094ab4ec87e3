// Stands before the real engine/kernels/cuda/ptx.h on the include path of emulated kernels: the
// same functions on the host, with the fragment layouts of the PTX ISA.
//
// A copy that does not wait spoils its target when it is started and arrives in the wait: both
// reading too early and overwriting too early show.
#pragma once

#include <cuda_runtime.h>

#include <cstdint>

#include "engine/kernels/bf16.h"

namespace baton {

inline constexpr int32_t kWarpSize = 32;
inline constexpr uint32_t kFullWarp = 0xffffffffu;

template <typename T>
T* DynamicShared() {
  return reinterpret_cast<T*>(cuda_emulation::DynamicSharedMemory());
}

inline void WaitForPreviousGrid() { cuda_emulation::WaitForPreviousGrid(); }

inline Bf16 RoundToBf16(float value) { return value == value ? ToBf16(value) : Bf16{0x7fff}; }
inline uint32_t PackBf16(float low, float high) {
  return uint32_t{RoundToBf16(low).bits} | uint32_t{RoundToBf16(high).bits} << 16;
}
inline float LowBf16(uint32_t packed) { return __uint_as_float(packed << 16); }
inline float HighBf16(uint32_t packed) { return __uint_as_float(packed & 0xffff0000u); }

inline uint32_t FmaBf16Pair(uint32_t a, uint32_t b, uint32_t c) {
  return PackBf16(fmaf(LowBf16(a), LowBf16(b), LowBf16(c)),
                  fmaf(HighBf16(a), HighBf16(b), HighBf16(c)));
}

inline uint64_t MadWide(uint32_t a, uint32_t b, uint64_t c) { return uint64_t{a} * b + c; }

inline float Exp2(float x) { return x < -126.0f ? 0.0f : exp2f(x); }

inline void CpAsync16(void* shared, const void* global, bool valid) {
  cuda_emulation::StartCopy16(shared, valid ? global : nullptr);
}
inline void CpAsyncCommit() { cuda_emulation::CommitCopies(); }
template <int pending>
void CpAsyncWait() {
  cuda_emulation::WaitForCopies(pending);
}

inline void LoadMatrix4(uint32_t (&fragment)[4], const void* shared_row) {
  cuda_emulation::LoadMatrix4(fragment, shared_row, /*transposed=*/false);
}
inline void LoadMatrix4Transposed(uint32_t (&fragment)[4], const void* shared_row) {
  cuda_emulation::LoadMatrix4(fragment, shared_row, /*transposed=*/true);
}
inline void MmaBf16(float (&d)[4], const uint32_t (&a)[4], const uint32_t (&b)[2]) {
  cuda_emulation::MmaBf16(d, a, b);
}

inline float WarpSum(float value) {
  for (int lane = kWarpSize / 2; lane > 0; lane /= 2) {
    value += __shfl_xor_sync(kFullWarp, value, lane);
  }
  return value;
}

}  // namespace baton
