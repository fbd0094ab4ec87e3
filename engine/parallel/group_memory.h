// The memory that the ranks of a tensor-parallel group share: what is where in it, and how to get
// it.
//
//   GroupHeader          what the file is, how many ranks have arrived
//   RankState [ranks]    a cache line for each
//   slot [ranks][2]      SlotHeader, then up to kSlotBytes: a part of a rank's message
//
// Ranks go through chunks 0, 1, 2 … together. In chunk n a rank writes its slot n % 2, counts
// itself as arrived, and reads the slots of the others once all have arrived. It writes the slot
// again in chunk n + 2, which it begins when all have arrived in n + 1: by then all have read chunk
// n. So no rank is more than one chunk ahead of another, and two slots are enough.
//
// No address, offset or length is taken out of the memory.
#pragma once

#include <atomic>
#include <cstddef>
#include <cstdint>
#include <memory>

#include "absl/status/statusor.h"

namespace baton {

inline constexpr size_t kCacheLineBytes = 64;
inline constexpr uint32_t kGroupSlots = 2;
// A multiple of every number's size. Two ranks' slots together stay in a core's L2.
inline constexpr size_t kSlotBytes = size_t{256} << 10;
// The count of chunks begins shortly before it wraps around, so that it does so in every test.
inline constexpr uint32_t kFirstChunk = 0u - 8u;

struct GroupHeader {
  uint64_t magic = 0;
  int32_t ranks = 0;
  // Of all ranks in all chunks, from kFirstChunk * ranks; wraps around.
  alignas(kCacheLineBytes) std::atomic<uint32_t> arrivals;
  // Ranks that sleep or are about to, and what they sleep on: it changes when they are to look.
  alignas(kCacheLineBytes) std::atomic<uint32_t> sleepers;
  std::atomic<uint32_t> signal;
};

enum class RankPresence : uint32_t {
  kNotYet,
  kThere,
  kLeft,    // whoever awaits more of it than it has done awaits it in vain
  kGaveUp,  // so does whoever awaits anybody
};

struct alignas(kCacheLineBytes) RankState {
  std::atomic<RankPresence> presence;
  std::atomic<uint32_t> chunks;  // that it has arrived in, from kFirstChunk
};

// What a rank writes a chunk of: the same on all ranks but for a bug.
struct alignas(kCacheLineBytes) SlotHeader {
  uint32_t operation = 0;
  uint64_t message_bytes = 0;
};

// The ranks count as `all there` in a chunk from this many arrivals on; see HasReached.
constexpr uint32_t ArrivalsBefore(uint32_t chunk, int32_t ranks) {
  return chunk * static_cast<uint32_t>(ranks);
}
// Whether a count that wraps around is at `target` or past it.
constexpr bool HasReached(uint32_t count, uint32_t target) {
  return static_cast<int32_t>(count - target) >= 0;
}

// Offsets in the memory of a group.
struct GroupLayout {
  int32_t ranks = 1;

  size_t StateOffset(int32_t rank) const {
    return sizeof(GroupHeader) + static_cast<size_t>(rank) * sizeof(RankState);
  }
  size_t SlotOffset(int32_t rank, uint32_t chunk) const {
    const size_t slot = static_cast<size_t>(rank) * kGroupSlots + chunk % kGroupSlots;
    return StateOffset(ranks) + slot * (sizeof(SlotHeader) + kSlotBytes);
  }
  size_t TotalBytes() const { return SlotOffset(ranks, 0); }
};

// One mapping of it. Thread-safe as far as the above goes.
class GroupMemory {
 public:
  // A new memory file for a group of `ranks`, in memory that is there; its length cannot be changed
  // any more. The caller owns the descriptor, which a child process must be made to inherit.
  static absl::StatusOr<int> CreateFile(int32_t ranks);
  // FAILED_PRECONDITION: `fd` is not the memory of such a group. It may be closed afterwards.
  static absl::StatusOr<std::unique_ptr<GroupMemory>> Map(int fd, int32_t ranks);
  ~GroupMemory();
  GroupMemory(const GroupMemory&) = delete;
  GroupMemory& operator=(const GroupMemory&) = delete;

  int32_t ranks() const { return layout_.ranks; }
  GroupHeader& header() { return *At<GroupHeader>(0); }
  RankState& state(int32_t rank) { return *At<RankState>(layout_.StateOffset(rank)); }
  SlotHeader& slot_header(int32_t rank, uint32_t chunk) {
    return *At<SlotHeader>(layout_.SlotOffset(rank, chunk));
  }
  // [kSlotBytes]
  std::byte* slot(int32_t rank, uint32_t chunk) {
    return base_ + layout_.SlotOffset(rank, chunk) + sizeof(SlotHeader);
  }

 private:
  GroupMemory(const GroupLayout& layout, std::byte* base) : layout_(layout), base_(base) {}
  template <typename T>
  T* At(size_t offset) {
    return reinterpret_cast<T*>(base_ + offset);
  }

  const GroupLayout layout_;
  std::byte* const base_;  // [layout_.TotalBytes()]
};

}  // namespace baton
