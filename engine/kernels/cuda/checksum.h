// The checksum of KV messages, XXH3-64 with its default secret, of bytes that are on the device.
//
// Specification: doc/xxhash_spec.md of xxHash. Blocks of 1,024 bytes are 16 stripes of 8 lanes of
// 64 bits. What a block adds to the 8 accumulators does not depend on them, so that blocks are read
// in parallel; only the scramble between two blocks is a chain, of 8 lanes side by side.
#pragma once

#include <cuda_runtime.h>

#include <cstddef>
#include <cstdint>

namespace baton {

// Shorter inputs have other rules.
inline constexpr int64_t kMinChecksumBytes = 241;
inline constexpr int64_t kChecksumBlockBytes = 1024;

// Of which the last may be shorter.
constexpr int64_t ChecksumBlocks(int64_t length_bytes) {
  return (length_bytes - 1) / kChecksumBlockBytes + 1;
}

struct ChecksumArgs {
  const std::byte* data = nullptr;  // [length_bytes], device, aligned to 8 bytes
  int64_t length_bytes = 0;         // a multiple of 8, at least kMinChecksumBytes
  uint64_t* sums = nullptr;         // [ChecksumBlocks(length_bytes), 8], device: scratch
  uint64_t* checksum = nullptr;     // device or pinned host memory
};

// Enqueues it. The first error of the launches.
cudaError_t EnqueueChecksum(cudaStream_t stream, const ChecksumArgs& args);

}  // namespace baton
