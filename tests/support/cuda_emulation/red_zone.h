// Memory around a buffer that nobody may touch.
#pragma once

#include <algorithm>
#include <cstddef>
#include <cstring>

// There with AddressSanitizer only: null otherwise.
extern "C" {
[[gnu::weak]] void __asan_poison_memory_region(const volatile void* address, size_t size);
[[gnu::weak]] void __asan_unpoison_memory_region(const volatile void* address, size_t size);
}

namespace baton::cuda_emulation {

inline constexpr size_t kRedZoneBytes = 256;
inline constexpr std::byte kRedZonePattern{0xfd};

// Opens [begin, begin + bytes) for access.
inline void Open(std::byte* begin, size_t bytes) {
  if (__asan_unpoison_memory_region != nullptr) __asan_unpoison_memory_region(begin, bytes);
}
inline void FillRedZone(std::byte* begin, size_t bytes) {
  Open(begin, bytes);
  std::fill_n(begin, bytes, kRedZonePattern);
  if (__asan_poison_memory_region != nullptr) __asan_poison_memory_region(begin, bytes);
}
// Also opens it.
inline bool RedZoneIsIntact(std::byte* begin, size_t bytes) {
  Open(begin, bytes);
  return std::all_of(begin, begin + bytes, [](std::byte b) { return b == kRedZonePattern; });
}

}  // namespace baton::cuda_emulation
