// Stands before the real engine/kernels/cuda/wgmma.h on the include path of emulated kernels: see
// warpgroup.h for what it does and refuses.
#pragma once

#include <cuda_runtime.h>

#include <cstddef>
#include <cstdint>

#include "engine/kernels/cuda/wgmma_descriptor.h"
#include "tests/support/cuda_emulation/warpgroup.h"

namespace baton {

inline constexpr int32_t kWarpgroupSize = cuda_emulation::kWarpgroupThreads;

inline void FenceSharedForWgmma() { cuda_emulation::FenceCopies(); }

inline uint64_t SharedMatrix(const void* shared, uint32_t leading_bytes, uint32_t stride_bytes) {
  return SwizzledDescriptor(cuda_emulation::SharedAddress(shared), leading_bytes, stride_bytes);
}

template <typename... Registers>
void WgmmaFence(Registers&... registers) {
  const auto where = cuda_emulation::Place::Here();
  (cuda_emulation::HandOver(&registers, sizeof(registers), where), ...);
}
inline void WgmmaCommit() { cuda_emulation::CommitProducts(); }
template <int pending, typename... Registers>
void WgmmaWait(Registers&... registers) {
  const auto where = cuda_emulation::Place::Here();
  cuda_emulation::WaitForProducts(pending, where);
  (cuda_emulation::TakeBack(&registers, sizeof(registers), where), ...);
}

template <bool kNMajor, size_t kColumns>
requires(kColumns == 8 || kColumns == 16) void WgmmaBf16(
    float (&d)[kColumns][4], const uint32_t (&a)[4], uint64_t b, bool adds,
    const cuda_emulation::Place& where = cuda_emulation::Place::Here()) {
  cuda_emulation::StartProduct({.d = &d[0][0],
                                .columns = static_cast<int>(kColumns) * 8,
                                .a = a,
                                .b = b,
                                .n_major = kNMajor,
                                .adds = adds},
                               where);
}

}  // namespace baton
