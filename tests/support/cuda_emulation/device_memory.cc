#include "tests/support/cuda_emulation/device_memory.h"

#include <sys/mman.h>

#include <cstdint>

#include "common/check.h"
#include "tests/support/cuda_emulation/red_zone.h"

namespace baton::cuda_emulation {

namespace {
constexpr size_t kReservedBytes = size_t{64} << 30;  // addresses only
constexpr size_t kAlignment = 256;
constexpr size_t kPage = size_t{2} << 20;  // a huge one
constexpr size_t kSmallPage = 4096;
size_t RoundUp(size_t value, size_t to) { return (value + to - 1) / to * to; }

void GiveBackPages(std::byte* begin, size_t bytes) {
  const auto address = reinterpret_cast<uintptr_t>(begin);
  const size_t first = RoundUp(address, kPage) - address;
  if (first + kPage > bytes) return;
  madvise(begin + first, (bytes - first) / kPage * kPage, MADV_DONTNEED);
}
}  // namespace

DeviceMemory::DeviceMemory() {
  void* mapping =
      mmap(nullptr, kReservedBytes, PROT_NONE, MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
  BATON_CHECK(mapping != MAP_FAILED);
  // Advice: opening and closing is an operation for each page that there is.
  madvise(mapping, kReservedBytes, MADV_HUGEPAGE);
  mapping_ = mapping;
  base_ = reinterpret_cast<std::byte*>(RoundUp(reinterpret_cast<uintptr_t>(mapping), kPage));
}

DeviceMemory::~DeviceMemory() { munmap(mapping_, kReservedBytes); }

std::byte* DeviceMemory::Allocate(size_t bytes) {
  if (bytes > kTotalBytes - used_bytes_) return nullptr;
  const size_t extent = kRedZoneBytes + RoundUp(bytes, kAlignment) + kRedZoneBytes;
  // The first gap that fits; the reserved range is long enough that there is one.
  std::byte* begin = base_;
  for (const auto& [memory, allocation] : allocations_) {
    std::byte* other = memory - kRedZoneBytes;
    if (static_cast<size_t>(other - begin) >= extent) break;
    begin = other + allocation.extent;
  }
  if (begin + extent > base_ + kReservedBytes - kPage) return nullptr;
  reach_ = std::max(reach_, RoundUp(static_cast<size_t>(begin + extent - base_), kPage));
  std::byte* memory = begin + kRedZoneBytes;
  Open();
  cuda_emulation::Open(begin, extent);
  std::fill_n(memory, bytes, std::byte{0xff});
  FillRedZone(begin, kRedZoneBytes);
  FillRedZone(memory + bytes, extent - kRedZoneBytes - bytes);
  allocations_[memory] = {.bytes = bytes, .extent = extent};
  used_bytes_ += bytes;
  Close();
  return memory;
}

bool DeviceMemory::Free(std::byte* memory) {
  const auto found = allocations_.find(memory);
  if (found == allocations_.end()) return false;
  Open();
  CheckRedZones(memory, found->second);
  const size_t extent = found->second.extent;
  used_bytes_ -= found->second.bytes;
  allocations_.erase(found);
  FillRedZone(memory - kRedZoneBytes, extent);
  GiveBackPages(memory - kRedZoneBytes, extent);
  Close();
  return true;
}

bool DeviceMemory::Contains(const std::byte* memory, size_t bytes) const {
  auto after = allocations_.upper_bound(const_cast<std::byte*>(memory));
  if (after == allocations_.begin()) return false;
  const auto& [begin, allocation] = *--after;
  const auto offset = static_cast<size_t>(memory - begin);
  return offset <= allocation.bytes && bytes <= allocation.bytes - offset;
}

void DeviceMemory::Open() {
  BATON_CHECK(reach_ == 0 || mprotect(base_, reach_, PROT_READ | PROT_WRITE) == 0);
}

void DeviceMemory::Close() {
  for (const auto& [memory, allocation] : allocations_) CheckRedZones(memory, allocation);
  // Never, not even for a moment, what is exposed: others may be in the middle of it.
  std::byte* begin = base_;
  for (const auto& [memory, allocation] : allocations_) {
    if (!allocation.exposed) continue;
    CloseUpTo(begin, memory - reinterpret_cast<uintptr_t>(memory) % kSmallPage);
    begin = base_ + RoundUp(static_cast<size_t>(memory + allocation.bytes - base_), kSmallPage);
  }
  CloseUpTo(begin, base_ + reach_);
}

void DeviceMemory::CloseUpTo(std::byte* begin, std::byte* end) {
  if (begin >= end) return;
  BATON_CHECK(mprotect(begin, static_cast<size_t>(end - begin), PROT_NONE) == 0);
}

void DeviceMemory::Expose(std::byte* memory) {
  const auto found = allocations_.find(memory);
  BATON_CHECK(found != allocations_.end());
  found->second.exposed = true;
  Open();
  Close();
}

void DeviceMemory::CheckRedZones(std::byte* memory, const Allocation& allocation) const {
  std::byte* begin = memory - kRedZoneBytes;
  std::byte* end = memory + allocation.bytes;
  const size_t end_bytes = allocation.extent - kRedZoneBytes - allocation.bytes;
  const bool intact = RedZoneIsIntact(begin, kRedZoneBytes) && RedZoneIsIntact(end, end_bytes);
  BATON_CHECK(intact) << "a write around an allocation of" << allocation.bytes << "bytes";
  FillRedZone(begin, kRedZoneBytes);
  FillRedZone(end, end_bytes);
}

}  // namespace baton::cuda_emulation
