#include "engine/kernels/aligned_buffer.h"

#include <sys/mman.h>

#include <cstring>

namespace baton {
namespace {

constexpr size_t kHugePageBytes = size_t{2} << 20;
constexpr size_t kCacheLineBytes = 64;

}  // namespace

AlignedBuffer::AlignedBuffer(size_t bytes) {
  if (bytes == 0) return;
  const size_t alignment = bytes >= kHugePageBytes ? kHugePageBytes : kCacheLineBytes;
  const size_t padded = (bytes + alignment - 1) / alignment * alignment;
  const auto align_val = static_cast<std::align_val_t>(alignment);
  auto* data = static_cast<std::byte*>(::operator new(padded, align_val));
  data_ = {data, Free{align_val}};
  size_ = bytes;
  if (alignment == kHugePageBytes) {
    // Advice only: without it the same memory comes in small pages.
    madvise(data, padded, MADV_HUGEPAGE);
    // Zeros come from the system with each page's first use, so several threads share that work.
    if (madvise(data, padded, MADV_DONTNEED) == 0) return;
  }
  std::memset(data, 0, padded);
}

}  // namespace baton
