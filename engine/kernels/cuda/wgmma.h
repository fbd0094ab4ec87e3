// Tensor cores of compute capability 9.0a: products of a warpgroup, that is of four warps that
// follow one another, the first a multiple of four. As ptx.h: tests put a header of the same name
// before this one. For .cu files that are compiled for 9.0a alone; PTX of 9.0 and later devices do
// not have it.
//
// A product is asynchronous. Until WgmmaWait has returned for its group nobody may touch its
// registers nor write the shared memory that it reads:
//
//   write shared memory, FenceSharedForWgmma, a barrier
//   WgmmaFence(d, a)
//   Wgmma..(d, a, descriptor), .. : of the same d one after another
//   WgmmaCommit()
//   WgmmaWait<0>(d)
//
// All of these by all threads of the warpgroup.
#pragma once

#include <cuda_runtime.h>

#include <cstddef>
#include <cstdint>

#include "engine/kernels/cuda/wgmma_descriptor.h"

namespace baton {

inline constexpr int32_t kWarpgroupSize = 128;

// What the calling thread has written to shared memory, copies that it has waited for included, can
// be read by products that come behind a later barrier.
__device__ __forceinline__ void FenceSharedForWgmma() {
  asm volatile("fence.proxy.async.shared::cta;" ::: "memory");
}

// A matrix in dynamic shared memory: see wgmma_descriptor.h.
__device__ __forceinline__ uint64_t SharedMatrix(const void* shared, uint32_t leading_bytes,
                                                 uint32_t stride_bytes) {
  return SwizzledDescriptor(static_cast<uint32_t>(__cvta_generic_to_shared(shared)), leading_bytes,
                            stride_bytes);
}

// Keeps the compiler from moving what is done with registers over the place of the call: it knows
// nothing of products that are still under way.
__device__ __forceinline__ void PinRegisters(float& value) {
  asm volatile("" : "+f"(value)::"memory");
}
__device__ __forceinline__ void PinRegisters(uint32_t& value) {
  asm volatile("" : "+r"(value)::"memory");
}
template <typename T, size_t kCount>
__device__ __forceinline__ void PinRegisters(T (&values)[kCount]) {
#pragma unroll
  for (size_t i = 0; i < kCount; ++i) PinRegisters(values[i]);
}

// Hands over the registers that the next products take: their d, unless a product on its way has it
// already, and their a. Arrays of float or uint32_t of any depth.
template <typename... Registers>
__device__ __forceinline__ void WgmmaFence(Registers&... registers) {
  (PinRegisters(registers), ...);
  asm volatile("wgmma.fence.sync.aligned;" ::: "memory");
}
// The products since the last commit are one group.
__device__ __forceinline__ void WgmmaCommit() {
  asm volatile("wgmma.commit_group.sync.aligned;" ::: "memory");
}
// Waits until at most `pending` of the newest groups are under way. `registers`: what comes back by
// it.
template <int pending, typename... Registers>
__device__ __forceinline__ void WgmmaWait(Registers&... registers) {
  asm volatile("wgmma.wait_group.sync.aligned %0;" ::"n"(pending) : "memory");
  (PinRegisters(registers), ...);
}

// d += a * b, or d = a * b unless `adds`: wgmma.m64nNk16 of bf16, sums in f32. Of the 64 rows of a
// and d warp w of the warpgroup has 16 * w and the 15 behind it; its lanes hold them as those of
// MmaBf16 do, 8 columns of d in each d[i]. b [16, N] lies in shared memory, K-major or N-major, and
// is the same for all threads.
#define BATON_D4(i) "+f"(d[i][0]), "+f"(d[i][1]), "+f"(d[i][2]), "+f"(d[i][3])
#define BATON_D32(i)                                                               \
  BATON_D4(i), BATON_D4(i + 1), BATON_D4(i + 2), BATON_D4(i + 3), BATON_D4(i + 4), \
      BATON_D4(i + 5), BATON_D4(i + 6), BATON_D4(i + 7)
#define BATON_32_REGISTERS                                                                \
  "%0, %1, %2, %3, %4, %5, %6, %7, %8, %9, %10, %11, %12, %13, %14, %15, %16, %17, %18, " \
  "%19, %20, %21, %22, %23, %24, %25, %26, %27, %28, %29, %30, %31"
#define BATON_NEXT_32_REGISTERS                                                           \
  "%32, %33, %34, %35, %36, %37, %38, %39, %40, %41, %42, %43, %44, %45, %46, %47, %48, " \
  "%49, %50, %51, %52, %53, %54, %55, %56, %57, %58, %59, %60, %61, %62, %63"

// N = 64.
template <bool kNMajor>
__device__ __forceinline__ void WgmmaBf16(float (&d)[8][4], const uint32_t (&a)[4], uint64_t b,
                                          bool adds) {
  asm volatile(
      "{\n"
      ".reg .pred adds;\n"
      "setp.ne.b32 adds, %37, 0;\n"
      "wgmma.mma_async.sync.aligned.m64n64k16.f32.bf16.bf16 {" BATON_32_REGISTERS
      "}, {%32, %33, %34, %35}, %36, adds, 1, 1, %38;\n"
      "}"
      : BATON_D32(0)
      : "r"(a[0]), "r"(a[1]), "r"(a[2]), "r"(a[3]), "l"(b), "r"(static_cast<int>(adds)),
        "n"(kNMajor ? 1 : 0));
}
// N = 128.
template <bool kNMajor>
__device__ __forceinline__ void WgmmaBf16(float (&d)[16][4], const uint32_t (&a)[4], uint64_t b,
                                          bool adds) {
  asm volatile(
      "{\n"
      ".reg .pred adds;\n"
      "setp.ne.b32 adds, %69, 0;\n"
      "wgmma.mma_async.sync.aligned.m64n128k16.f32.bf16.bf16 {" BATON_32_REGISTERS
      ", " BATON_NEXT_32_REGISTERS
      "}, {%64, %65, %66, %67}, %68, adds, 1, 1, %70;\n"
      "}"
      : BATON_D32(0), BATON_D32(8)
      : "r"(a[0]), "r"(a[1]), "r"(a[2]), "r"(a[3]), "l"(b), "r"(static_cast<int>(adds)),
        "n"(kNMajor ? 1 : 0));
}

#undef BATON_D4
#undef BATON_D32
#undef BATON_32_REGISTERS
#undef BATON_NEXT_32_REGISTERS

}  // namespace baton
