// The memory of the emulated device: one range of addresses that is closed to the host.
#pragma once

#include <cstddef>
#include <map>

namespace baton::cuda_emulation {

// Not thread-safe.
class DeviceMemory {
 public:
  static constexpr size_t kTotalBytes = size_t{4} << 30;

  DeviceMemory();
  ~DeviceMemory();
  DeviceMemory(const DeviceMemory&) = delete;
  DeviceMemory& operator=(const DeviceMemory&) = delete;

  // Filled with 0xff, aligned to 256 bytes. Null: there is no room.
  std::byte* Allocate(size_t bytes);
  // False: it was not allocated.
  bool Free(std::byte* memory);
  bool Contains(const std::byte* memory, size_t bytes) const;
  // From now on the host may always touch the allocation that begins there, and what shares its
  // pages.
  void Expose(std::byte* memory);
  size_t free_bytes() const { return kTotalBytes - used_bytes_; }

  // Between these two the host may touch it. Close ends the process when something was written
  // around an allocation.
  void Open();
  void Close();

 private:
  struct Allocation {
    size_t bytes = 0;   // asked for
    size_t extent = 0;  // with red zones
    bool exposed = false;
  };
  static void CloseUpTo(std::byte* begin, std::byte* end);
  void CheckRedZones(std::byte* memory, const Allocation& allocation) const;

  void* mapping_ = nullptr;
  std::byte* base_ = nullptr;  // in it
  size_t reach_ = 0;           // nothing was ever allocated beyond
  size_t used_bytes_ = 0;
  std::map<std::byte*, Allocation> allocations_;
};

}  // namespace baton::cuda_emulation
