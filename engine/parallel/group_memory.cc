#include "engine/parallel/group_memory.h"

#include <fcntl.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <unistd.h>

#include <cerrno>
#include <cstring>

#include "absl/strings/str_cat.h"
#include "common/check.h"

namespace baton {
namespace {

constexpr uint64_t kMagic = 0x31707267'6e746162;  // "batngrp1"

static_assert(std::atomic<uint32_t>::is_always_lock_free);  // so that processes can share them
static_assert(sizeof(std::atomic<uint32_t>) == sizeof(uint32_t));  // so that a futex can be one

absl::Status SystemError(const char* what) {
  return absl::ResourceExhaustedError(
      absl::StrCat("memory of a tensor-parallel group: ", what, ": ", std::strerror(errno)));
}

absl::StatusOr<std::byte*> MapFile(int fd, size_t bytes) {
  void* mapping = mmap(nullptr, bytes, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_POPULATE, fd, 0);
  if (mapping == MAP_FAILED) return SystemError("mmap");
  return static_cast<std::byte*>(mapping);
}

absl::Status Prepare(int fd, const GroupLayout& layout) {
  const auto bytes = static_cast<off_t>(layout.TotalBytes());
  // Taken now: a page that cannot be had later would end the process that touches it.
  if (const int error = posix_fallocate(fd, 0, bytes); error != 0) {
    errno = error;
    return SystemError("fallocate");
  }
  if (fcntl(fd, F_ADD_SEALS, F_SEAL_SHRINK | F_SEAL_GROW | F_SEAL_SEAL) != 0) {
    return SystemError("seals");
  }
  ASSIGN_OR_RETURN(std::byte* const base, MapFile(fd, layout.TotalBytes()));
  auto* header = new (base) GroupHeader{.magic = kMagic, .ranks = layout.ranks};
  header->arrivals.store(ArrivalsBefore(kFirstChunk, layout.ranks), std::memory_order_relaxed);
  for (int32_t rank = 0; rank < layout.ranks; ++rank) {
    auto* state = new (base + layout.StateOffset(rank)) RankState{};
    state->chunks.store(kFirstChunk, std::memory_order_relaxed);
  }
  munmap(base, layout.TotalBytes());
  return absl::OkStatus();
}

}  // namespace

absl::StatusOr<int> GroupMemory::CreateFile(int32_t ranks) {
  BATON_CHECK(ranks >= 1) << ranks;
  const int fd = memfd_create("baton-ranks", MFD_CLOEXEC | MFD_ALLOW_SEALING);
  if (fd < 0) return SystemError("memfd_create");
  if (const absl::Status status = Prepare(fd, {.ranks = ranks}); !status.ok()) {
    close(fd);
    return status;
  }
  return fd;
}

absl::StatusOr<std::unique_ptr<GroupMemory>> GroupMemory::Map(int fd, int32_t ranks) {
  const GroupLayout layout{.ranks = ranks};
  struct stat facts {};
  if (fstat(fd, &facts) != 0) {
    return absl::FailedPreconditionError(absl::StrCat(
        "memory of a tensor-parallel group: descriptor ", fd, ": ", std::strerror(errno)));
  }
  if (ranks < 1 || facts.st_size != static_cast<off_t>(layout.TotalBytes())) {
    return absl::FailedPreconditionError(
        absl::StrCat("memory of a tensor-parallel group: ", facts.st_size, " bytes; expected ",
                     layout.TotalBytes(), " for ", ranks));
  }
  ASSIGN_OR_RETURN(std::byte* const base, MapFile(fd, layout.TotalBytes()));
  std::unique_ptr<GroupMemory> memory(new GroupMemory(layout, base));
  if (memory->header().magic != kMagic || memory->header().ranks != ranks) {
    return absl::FailedPreconditionError(absl::StrCat(
        "descriptor ", fd, " is not the memory of a tensor-parallel group of ", ranks));
  }
  return memory;
}

GroupMemory::~GroupMemory() { munmap(base_, layout_.TotalBytes()); }

}  // namespace baton
