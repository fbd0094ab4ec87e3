// How wgmma is told where a matrix lies in shared memory: PTX ISA, "Matrix Descriptor".
#pragma once

#include <cstdint>

namespace baton {

// A matrix of 16-bit numbers that lies in lines of 128 bytes, each 8 lines one after another from
// an address that is a multiple of 1024 on: a core of 8 lines. Bits 4 to 6 of each address are
// turned by (xor) bits 7 to 9, the "128-byte swizzle", so that the same 16 bytes of 8 lines lie in
// different banks.
//
//   K-major: a line is 64 numbers along k of one n.   n % 8: the line, n / 8: the core.
//   N-major: a line is 64 numbers along n of one k.   k % 8: the line, k / 8: the core.
//
// shared_address: of the first number, before it is turned: it may lie some 32 bytes (K-major: 16
// more of k) into a line. stride_bytes: from one core to the next. leading_bytes: N-major: from 64
// of n to the next 64; K-major: has no meaning. All multiples of 16, below 2^18.
//
//   63 62 | 61..52 | 51 50 49    | 48..46 | 45..32      | 31 30 | 29..16       | 15 14 | 13..0
//   1     | 0      | base offset | 0      | stride / 16 | 0     | leading / 16 | 0     | address /
//   16
//
// The base offset is 0, as cores begin at multiples of 1024.
constexpr uint64_t SwizzledDescriptor(uint32_t shared_address, uint32_t leading_bytes,
                                      uint32_t stride_bytes) {
  constexpr uint64_t kSwizzle128 = uint64_t{1} << 62;
  constexpr auto encode = [](uint32_t bytes) { return uint64_t{(bytes & 0x3ffff) >> 4}; };
  return kSwizzle128 | encode(stride_bytes) << 32 | encode(leading_bytes) << 16 |
         encode(shared_address);
}

}  // namespace baton
