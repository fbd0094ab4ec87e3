// The memory of the emulated devices: a range of addresses that is closed to the host, and what
// other processes share of theirs.
#pragma once

#include <cstddef>
#include <map>
#include <optional>
#include <span>

namespace baton::cuda_emulation {

// Not thread-safe.
class DeviceMemory {
 public:
  static constexpr size_t kTotalBytes = size_t{4} << 30;
  static constexpr size_t kReservedBytes = size_t{64} << 30;  // addresses only

  DeviceMemory();
  ~DeviceMemory();
  DeviceMemory(const DeviceMemory&) = delete;
  DeviceMemory& operator=(const DeviceMemory&) = delete;

  // Of `device`, filled with 0xff, aligned to 256 bytes. Null: there is no room.
  std::byte* Allocate(size_t bytes, int device);
  // False: it was not allocated.
  bool Free(std::byte* memory);
  bool Contains(const std::byte* memory, size_t bytes) const;
  // The one that has this byte. Empty: none.
  std::span<const std::byte> AllocationOf(const std::byte* memory) const;
  // What the byte there is of; empty: it is no device memory.
  struct Owner {
    int device = 0;
    bool imported = false;  // then the device that it was imported for
  };
  std::optional<Owner> OwnerOf(const std::byte* memory) const;
  // From now on the host may always touch the allocation that begins there, and what shares its
  // pages.
  void Expose(std::byte* memory);

  // Where an allocation is in a memory file.
  struct Shared {
    int fd = -1;  // open as long as the allocation lives
    int device = 0;
    size_t offset = 0;
    size_t bytes = 0;
  };
  // Moves an allocation into a memory file, its address and bytes unchanged; the same one again for
  // one that is there. Empty: `memory` was not allocated here.
  std::optional<Shared> Share(std::byte* memory);
  // What another process has shared, for `device`, which may lose what it writes there. Null: there
  // is no such file.
  std::byte* Import(const Shared& shared, int device, bool loses_writes);
  // False: it was not imported.
  bool Drop(std::byte* memory);

  // All that is allocated lies in [base, base + kReservedBytes).
  const std::byte* base() const { return base_; }
  size_t free_bytes() const { return kTotalBytes - used_bytes_; }

  // Between these two the host may touch it. Close ends the process when something was written
  // around an allocation.
  void Open();
  void Close();

 private:
  struct Allocation {
    size_t bytes = 0;   // asked for
    size_t extent = 0;  // with red zones
    int device = 0;
    bool exposed = false;
    Shared shared;
  };
  struct Imported {
    std::byte* mapping = nullptr;
    size_t mapping_bytes = 0;
    size_t bytes = 0;
    int device = 0;  // that it is for
  };
  // The one of `pieces`, which begin where their keys are, that has all of it. Null: none.
  template <typename Pieces>
  static const typename Pieces::mapped_type* Find(const Pieces& pieces, const std::byte* memory,
                                                  size_t bytes) {
    auto after = pieces.upper_bound(const_cast<std::byte*>(memory));
    if (after == pieces.begin()) return nullptr;
    const auto& [begin, piece] = *--after;
    const auto offset = static_cast<size_t>(memory - begin);
    return offset <= piece.bytes && bytes <= piece.bytes - offset ? &piece : nullptr;
  }
  static void CloseUpTo(std::byte* begin, std::byte* end);
  void CheckRedZones(std::byte* memory, const Allocation& allocation) const;

  void* mapping_ = nullptr;
  std::byte* base_ = nullptr;  // in it
  size_t reach_ = 0;           // nothing was ever allocated beyond
  size_t used_bytes_ = 0;
  std::map<std::byte*, Allocation> allocations_;
  std::map<std::byte*, Imported> imported_;
};

}  // namespace baton::cuda_emulation
