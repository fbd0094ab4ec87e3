#include "tests/support/cuda_emulation/device_memory.h"

#include <sys/mman.h>
#include <sys/stat.h>
#include <unistd.h>

#include <cstdint>
#include <cstring>

#include "common/check.h"
#include "tests/support/cuda_emulation/red_zone.h"

namespace baton::cuda_emulation {

namespace {
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

std::byte* DeviceMemory::Allocate(size_t bytes, int device) {
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
  allocations_[memory] = {.bytes = bytes, .extent = extent, .device = device};
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
  if (found->second.shared.fd >= 0) close(found->second.shared.fd);
  used_bytes_ -= found->second.bytes;
  allocations_.erase(found);
  FillRedZone(memory - kRedZoneBytes, extent);
  GiveBackPages(memory - kRedZoneBytes, extent);
  Close();
  return true;
}

bool DeviceMemory::Contains(const std::byte* memory, size_t bytes) const {
  return Find(allocations_, memory, bytes) != nullptr || Find(imported_, memory, bytes) != nullptr;
}

std::span<const std::byte> DeviceMemory::AllocationOf(const std::byte* memory) const {
  const auto find = [memory](const auto& pieces) -> std::span<const std::byte> {
    auto after = pieces.upper_bound(const_cast<std::byte*>(memory));
    if (after == pieces.begin()) return {};
    const auto& [begin, piece] = *--after;
    return begin + piece.bytes > memory ? std::span<const std::byte>(begin, piece.bytes)
                                        : std::span<const std::byte>();
  };
  const std::span<const std::byte> own = find(allocations_);
  return own.empty() ? find(imported_) : own;
}

std::optional<DeviceMemory::Owner> DeviceMemory::OwnerOf(const std::byte* memory) const {
  if (const Allocation* allocation = Find(allocations_, memory, 1)) {
    return Owner{.device = allocation->device};
  }
  if (const Imported* imported = Find(imported_, memory, 1)) {
    return Owner{.device = imported->device, .imported = true};
  }
  return std::nullopt;
}

std::optional<DeviceMemory::Shared> DeviceMemory::Share(std::byte* memory) {
  const auto found = allocations_.find(memory);
  if (found == allocations_.end()) return std::nullopt;
  Allocation& allocation = found->second;
  if (allocation.shared.fd >= 0) return allocation.shared;
  // Whole pages, in which neighbours may begin and end.
  const auto address = reinterpret_cast<uintptr_t>(memory - kRedZoneBytes);
  const size_t before = address % kSmallPage;
  std::byte* begin = memory - kRedZoneBytes - before;
  const size_t bytes = RoundUp(before + allocation.extent, kSmallPage);
  const int fd = memfd_create("emulated-device-memory", MFD_CLOEXEC);
  BATON_CHECK(fd >= 0 && ftruncate(fd, static_cast<off_t>(bytes)) == 0);
  void* file = mmap(nullptr, bytes, PROT_READ | PROT_WRITE, MAP_SHARED, fd, 0);
  BATON_CHECK(file != MAP_FAILED);
  Open();
  cuda_emulation::Open(begin, bytes);
  std::memcpy(file, begin, bytes);
  munmap(file, bytes);
  void* moved = mmap(begin, bytes, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_FIXED, fd, 0);
  BATON_CHECK(moved == begin);
  Close();
  allocation.shared = {.fd = fd,
                       .device = allocation.device,
                       .offset = static_cast<size_t>(memory - begin),
                       .bytes = allocation.bytes};
  return allocation.shared;
}

std::byte* DeviceMemory::Import(const Shared& shared, int device, bool loses_writes) {
  struct stat facts {};
  if (fstat(shared.fd, &facts) != 0) return nullptr;
  const auto mapping_bytes = static_cast<size_t>(facts.st_size);
  BATON_CHECK(shared.offset + shared.bytes <= mapping_bytes) << mapping_bytes;
  void* mapping = mmap(nullptr, mapping_bytes, PROT_NONE, loses_writes ? MAP_PRIVATE : MAP_SHARED,
                       shared.fd, 0);
  if (mapping == MAP_FAILED) return nullptr;
  auto* begin = static_cast<std::byte*>(mapping);
  imported_[begin + shared.offset] = {
      .mapping = begin, .mapping_bytes = mapping_bytes, .bytes = shared.bytes, .device = device};
  return begin + shared.offset;
}

bool DeviceMemory::Drop(std::byte* memory) {
  const auto found = imported_.find(memory);
  if (found == imported_.end()) return false;
  munmap(found->second.mapping, found->second.mapping_bytes);
  imported_.erase(found);
  return true;
}

void DeviceMemory::Open() {
  BATON_CHECK(reach_ == 0 || mprotect(base_, reach_, PROT_READ | PROT_WRITE) == 0);
  for (const auto& [memory, imported] : imported_) {
    BATON_CHECK(mprotect(imported.mapping, imported.mapping_bytes, PROT_READ | PROT_WRITE) == 0);
  }
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
  for (const auto& [memory, imported] : imported_) {
    BATON_CHECK(mprotect(imported.mapping, imported.mapping_bytes, PROT_NONE) == 0);
  }
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
