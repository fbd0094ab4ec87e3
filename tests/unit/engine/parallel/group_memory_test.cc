#include "engine/parallel/group_memory.h"

#include <fcntl.h>
#include <gtest/gtest.h>
#include <sys/mman.h>
#include <unistd.h>

#include <limits>

namespace baton {
namespace {

TEST(GroupLayout, NothingOverlapsAndEverythingIsOnItsOwnCacheLines) {
  for (const int32_t ranks : {1, 2, 3, 64}) {
    const GroupLayout layout{.ranks = ranks};
    size_t end = sizeof(GroupHeader);
    for (int32_t rank = 0; rank < ranks; ++rank) {
      EXPECT_EQ(layout.StateOffset(rank), end);
      end += sizeof(RankState);
    }
    for (int32_t rank = 0; rank < ranks; ++rank) {
      for (uint32_t chunk = 0; chunk < kGroupSlots; ++chunk) {
        EXPECT_EQ(layout.SlotOffset(rank, chunk), end);
        EXPECT_EQ(end % kCacheLineBytes, 0u);
        end += sizeof(SlotHeader) + kSlotBytes;
      }
    }
    EXPECT_EQ(layout.TotalBytes(), end);
  }
}

TEST(GroupLayout, ConsecutiveChunksTakeTurnsAlsoWhereTheCountWrapsAround) {
  const GroupLayout layout{.ranks = 2};
  const uint32_t last = std::numeric_limits<uint32_t>::max();
  EXPECT_NE(layout.SlotOffset(1, last), layout.SlotOffset(1, last + 1));
  EXPECT_EQ(layout.SlotOffset(1, last), layout.SlotOffset(1, last + 2));
}

TEST(GroupLayout, SlotsHoldWholeNumbers) { EXPECT_EQ(kSlotBytes % kCacheLineBytes, 0u); }

TEST(HasReached, ComparesCountsThatWrapAround) {
  EXPECT_TRUE(HasReached(5, 5));
  EXPECT_TRUE(HasReached(6, 5));
  EXPECT_FALSE(HasReached(4, 5));
  EXPECT_FALSE(HasReached(0u - 1u, 0));
  EXPECT_TRUE(HasReached(2, 0u - 1u));
  for (const int32_t ranks : {1, 3, 64}) {
    for (uint32_t chunk = kFirstChunk; chunk != 8; ++chunk) {
      const uint32_t all = ArrivalsBefore(chunk, ranks) + static_cast<uint32_t>(ranks);
      EXPECT_TRUE(HasReached(all, ArrivalsBefore(chunk + 1, ranks)));
      EXPECT_FALSE(HasReached(all - 1, ArrivalsBefore(chunk + 1, ranks)));
    }
  }
}

TEST(GroupMemory, ItsLengthCannotBeChanged) {
  const int fd = *GroupMemory::CreateFile(2);
  EXPECT_NE(ftruncate(fd, 0), 0);
  EXPECT_NE(ftruncate(fd, 1 << 30), 0);
  EXPECT_NE(fcntl(fd, F_ADD_SEALS, F_SEAL_WRITE), 0);  // nor may a rank be kept from writing
  close(fd);
}

TEST(GroupMemory, MappingsShowTheSameMemoryAndOutliveTheDescriptor) {
  const int fd = *GroupMemory::CreateFile(2);
  const auto one = *GroupMemory::Map(fd, 2);
  const auto other = *GroupMemory::Map(fd, 2);
  close(fd);
  one->slot(1, 0)[kSlotBytes - 1] = std::byte{42};
  EXPECT_EQ(other->slot(1, 2)[kSlotBytes - 1], std::byte{42});
  EXPECT_EQ(other->header().arrivals.load(), ArrivalsBefore(kFirstChunk, 2));
}

TEST(GroupMemory, RefusesWhatIsNotTheGroups) {
  const int fd = *GroupMemory::CreateFile(2);
  EXPECT_EQ(GroupMemory::Map(fd, 3).status().code(), absl::StatusCode::kFailedPrecondition);
  EXPECT_EQ(GroupMemory::Map(fd, 0).status().code(), absl::StatusCode::kFailedPrecondition);
  close(fd);
  const int zeros = memfd_create("zeros", 0);
  ASSERT_EQ(ftruncate(zeros, static_cast<off_t>(GroupLayout{.ranks = 2}.TotalBytes())), 0);
  EXPECT_EQ(GroupMemory::Map(zeros, 2).status().code(), absl::StatusCode::kFailedPrecondition);
  close(zeros);
  EXPECT_EQ(GroupMemory::Map(-1, 2).status().code(), absl::StatusCode::kFailedPrecondition);
}

}  // namespace
}  // namespace baton
