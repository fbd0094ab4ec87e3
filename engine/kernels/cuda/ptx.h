// What kernels need that CUDA C++ has no word for: copies to shared memory that do not wait, matrix
// fragments, tensor cores, conversions of pairs. Compute capability 8.0 and later.
//
// Tests put a header of the same name before this one, which does the same on the host: see
// tests/support/cuda_emulation. Whatever is inline PTX stands here or, for 9.0a alone, in wgmma.h.
#pragma once

#include <cuda_runtime.h>

#include <cstdint>

#include "engine/kernels/bf16.h"

namespace baton {

inline constexpr int32_t kWarpSize = 32;
inline constexpr uint32_t kFullWarp = 0xffffffffu;

// The block's dynamic shared memory, aligned to 1024 bytes.
template <typename T>
__device__ __forceinline__ T* DynamicShared() {
  extern __shared__ __align__(1024) unsigned char dynamic_shared[];
  return reinterpret_cast<T*>(dynamic_shared);
}

// Lets blocks of the next grid of the stream in, and waits until all grids before this one have
// ended and what they wrote is visible: see launch.h. By every thread of a kernel that Launch
// starts. What comes before it may touch no memory but weights, which no step writes. Nothing
// happens where the launch was not dependent, nor before compute capability 9.0.
__device__ __forceinline__ void WaitForPreviousGrid() {
#if __CUDA_ARCH__ >= 900
  asm volatile("griddepcontrol.launch_dependents;" ::: "memory");
  asm volatile("griddepcontrol.wait;" ::: "memory");
#endif
}

// bf16 as bits, rounded to nearest, ties to even; a NaN becomes 0x7fff. The other way: ToFloat.
__device__ __forceinline__ Bf16 RoundToBf16(float value) {
  Bf16 rounded;
  asm("cvt.rn.bf16.f32 %0, %1;" : "=h"(rounded.bits) : "f"(value));
  return rounded;
}

// Two bf16 in one register, `low` in the lower half: as they lie in memory, low first.
__device__ __forceinline__ uint32_t PackBf16(float low, float high) {
  uint32_t packed;
  asm("cvt.rn.bf16x2.f32 %0, %1, %2;" : "=r"(packed) : "f"(high), "f"(low));
  return packed;
}
__device__ __forceinline__ float LowBf16(uint32_t packed) { return __uint_as_float(packed << 16); }
__device__ __forceinline__ float HighBf16(uint32_t packed) {
  return __uint_as_float(packed & 0xffff0000u);
}

// a * b + c of two bf16 in a register each, rounded once.
__device__ __forceinline__ uint32_t FmaBf16Pair(uint32_t a, uint32_t b, uint32_t c) {
  uint32_t result;
  asm("fma.rn.bf16x2 %0, %1, %2, %3;" : "=r"(result) : "r"(a), "r"(b), "r"(c));
  return result;
}

// a * b + c, of which only c and the result are 64 bits wide: one instruction, for addresses. The
// compiler takes three to five for the same in C++.
__device__ __forceinline__ uint64_t MadWide(uint32_t a, uint32_t b, uint64_t c) {
  uint64_t result;
  asm("mad.wide.u32 %0, %1, %2, %3;" : "=l"(result) : "r"(a), "r"(b), "l"(c));
  return result;
}

// 2^x, within 2 units in the last place; results below the normal range are 0.
__device__ __forceinline__ float Exp2(float x) {
  float result;
  asm("ex2.approx.ftz.f32 %0, %1;" : "=f"(result) : "f"(x));
  return result;
}

// Copies 16 bytes to shared memory, or zeros when not `valid` (then `global` is not read). Both
// aligned to 16. In shared memory at the calling thread's CpAsyncWait of its group, not before; for
// other threads after a barrier behind that.
__device__ __forceinline__ void CpAsync16(void* shared, const void* global, bool valid) {
  const auto target = static_cast<uint32_t>(__cvta_generic_to_shared(shared));
  const int source_bytes = valid ? 16 : 0;
  asm volatile("cp.async.cg.shared.global [%0], [%1], 16, %2;" ::"r"(target), "l"(global),
               "r"(source_bytes)
               : "memory");
}
// What the calling thread copied since the last commit is one group; it may be empty.
__device__ __forceinline__ void CpAsyncCommit() {
  asm volatile("cp.async.commit_group;" ::: "memory");
}
// Waits until at most `pending` of the calling thread's newest groups are under way.
template <int pending>
__device__ __forceinline__ void CpAsyncWait() {
  asm volatile("cp.async.wait_group %0;" ::"n"(pending) : "memory");
}

// ldmatrix.x4, by all lanes of a warp: four 8x8 matrices of 16-bit numbers. Lane 8 * m + r gives
// the address of row r of matrix m in shared memory: 8 numbers, aligned to 16 bytes. Lane l gets of
// matrix m in fragment[m] the numbers [row l / 4][columns 2 * (l % 4), + 1], the first in the lower
// half.
__device__ __forceinline__ void LoadMatrix4(uint32_t (&fragment)[4], const void* shared_row) {
  const auto source = static_cast<uint32_t>(__cvta_generic_to_shared(shared_row));
  asm volatile("ldmatrix.sync.aligned.m8n8.x4.shared.b16 {%0, %1, %2, %3}, [%4];"
               : "=r"(fragment[0]), "=r"(fragment[1]), "=r"(fragment[2]), "=r"(fragment[3])
               : "r"(source)
               : "memory");
}
// The same of each matrix transposed: lane l gets [rows 2 * (l % 4), + 1][column l / 4].
__device__ __forceinline__ void LoadMatrix4Transposed(uint32_t (&fragment)[4],
                                                      const void* shared_row) {
  const auto source = static_cast<uint32_t>(__cvta_generic_to_shared(shared_row));
  asm volatile("ldmatrix.sync.aligned.m8n8.x4.trans.shared.b16 {%0, %1, %2, %3}, [%4];"
               : "=r"(fragment[0]), "=r"(fragment[1]), "=r"(fragment[2]), "=r"(fragment[3])
               : "r"(source)
               : "memory");
}

// d += a * b by all lanes of a warp: mma.m16n8k16 of bf16, sums in f32. With g = lane / 4 and
// t = lane % 4, pairs with the first in the lower half:
//   a [16, 16]: a[0] = [g][2t, 2t + 1], a[1] = [g + 8][2t, ..], a[2] = [g][2t + 8, ..],
//               a[3] = [g + 8][2t + 8, ..]
//   b [16, 8]:  b[0] = [2t, 2t + 1][g], b[1] = [2t + 8, 2t + 9][g]
//   d [16, 8]:  d[0], d[1] = [g][2t, 2t + 1]; d[2], d[3] = [g + 8][2t, 2t + 1]
__device__ __forceinline__ void MmaBf16(float (&d)[4], const uint32_t (&a)[4],
                                        const uint32_t (&b)[2]) {
  asm("mma.sync.aligned.m16n8k16.row.col.f32.bf16.bf16.f32 "
      "{%0, %1, %2, %3}, {%4, %5, %6, %7}, {%8, %9}, {%0, %1, %2, %3};"
      : "+f"(d[0]), "+f"(d[1]), "+f"(d[2]), "+f"(d[3])
      : "r"(a[0]), "r"(a[1]), "r"(a[2]), "r"(a[3]), "r"(b[0]), "r"(b[1]));
}

// Over all 32 lanes, which all get the same result.
__device__ __forceinline__ float WarpSum(float value) {
#pragma unroll
  for (int lane = kWarpSize / 2; lane > 0; lane /= 2) {
    value += __shfl_xor_sync(kFullWarp, value, lane);
  }
  return value;
}

}  // namespace baton
