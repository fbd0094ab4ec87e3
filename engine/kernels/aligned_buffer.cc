#include "engine/kernels/aligned_buffer.h"

#include <sys/mman.h>

#include <new>

namespace baton {
namespace {

constexpr size_t kHugePageBytes = size_t{2} << 20;
constexpr size_t kCacheLineBytes = 64;

}  // namespace

AlignedBuffer::AlignedBuffer(size_t bytes) {
  if (bytes == 0) return;
  const size_t alignment = bytes >= kHugePageBytes ? kHugePageBytes : kCacheLineBytes;
  const size_t padded = (bytes + alignment - 1) / alignment * alignment;
  void* data = std::aligned_alloc(alignment, padded);
  if (data == nullptr) throw std::bad_alloc();
  // Advice only: without it the same memory comes in small pages.
  if (alignment == kHugePageBytes) madvise(data, padded, MADV_HUGEPAGE);
  std::memset(data, 0, padded);
  data_.reset(static_cast<std::byte*>(data));
  size_ = bytes;
}

}  // namespace baton
