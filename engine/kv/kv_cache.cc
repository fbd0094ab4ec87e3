#include "engine/kv/kv_cache.h"

#include <sys/mman.h>
#include <sys/stat.h>
#include <unistd.h>

#include <cerrno>
#include <cstring>

#include "absl/status/status.h"
#include "absl/strings/str_cat.h"
#include "common/check.h"

namespace baton {

namespace {

constexpr int kNoFile = -1;

// Makes the file as long as the cache, or finds it so.
absl::Status PrepareFile(int fd, int64_t bytes, bool attach) {
  struct stat facts {};
  if (fstat(fd, &facts) != 0) {
    return absl::InternalError(absl::StrCat("KV memory file: ", std::strerror(errno)));
  }
  if (attach && facts.st_size != bytes) {
    return absl::FailedPreconditionError(
        absl::StrCat("KV memory file: ", facts.st_size, " bytes; expected ", bytes));
  }
  if (!attach && ftruncate(fd, bytes) != 0) {
    return absl::ResourceExhaustedError(
        absl::StrCat("KV memory file of ", bytes >> 20, " MiB: ", std::strerror(errno)));
  }
  return absl::OkStatus();
}

}  // namespace

absl::StatusOr<std::unique_ptr<KvCache>> KvCache::Create(const KvLayout& layout,
                                                         int32_t num_blocks) {
  return Map(layout, num_blocks, kNoFile, /*attach=*/false);
}

absl::StatusOr<std::unique_ptr<KvCache>> KvCache::CreateShared(const KvLayout& layout,
                                                               int32_t num_blocks, int shared_fd) {
  return Map(layout, num_blocks, shared_fd, /*attach=*/false);
}

absl::StatusOr<std::unique_ptr<KvCache>> KvCache::Attach(const KvLayout& layout, int32_t num_blocks,
                                                         int shared_fd) {
  return Map(layout, num_blocks, shared_fd, /*attach=*/true);
}

absl::StatusOr<std::unique_ptr<KvCache>> KvCache::Map(const KvLayout& layout, int32_t num_blocks,
                                                      int shared_fd, bool attach) {
  if (num_blocks < 1 || layout.num_layers < 1 || layout.BlockBytes() < 1) {
    return absl::InvalidArgumentError(
        absl::StrCat("a KV cache of ", num_blocks, " blocks of ", layout.ToString()));
  }
  int64_t layer_bytes = 0;
  int64_t bytes = 0;
  const bool too_large =
      __builtin_mul_overflow(layout.BlockBytes(), int64_t{num_blocks}, &layer_bytes) ||
      __builtin_mul_overflow(layer_bytes, int64_t{layout.num_layers}, &bytes);
  const int64_t machine_bytes = int64_t{sysconf(_SC_PHYS_PAGES)} * sysconf(_SC_PAGESIZE);
  // The kernel would grant more than the machine has and kill the process when it is touched.
  void* mapping = MAP_FAILED;
  if (!too_large && bytes <= machine_bytes) {
    if (shared_fd != kNoFile) RETURN_IF_ERROR(PrepareFile(shared_fd, bytes, attach));
    const int flags = shared_fd == kNoFile ? MAP_PRIVATE | MAP_ANONYMOUS : MAP_SHARED;
    mapping =
        mmap(nullptr, static_cast<size_t>(bytes), PROT_READ | PROT_WRITE, flags, shared_fd, 0);
  }
  if (mapping == MAP_FAILED) {
    return absl::ResourceExhaustedError(absl::StrCat(
        "cannot allocate a KV cache of ", num_blocks, " blocks of ", layout.ToString(), " (",
        too_large ? -1 : bytes >> 20, " MiB); the machine has ", machine_bytes >> 20, " MiB"));
  }
  // Advice only: without it the same memory comes in small pages.
  madvise(mapping, static_cast<size_t>(bytes), MADV_HUGEPAGE);
  std::unique_ptr<KvCache> cache(new KvCache());
  cache->mapping_ = mapping;
  cache->mapping_bytes_ = static_cast<size_t>(bytes);
  cache->region_.layout = layout;
  cache->region_.num_blocks = num_blocks;
  for (int32_t layer = 0; layer < layout.num_layers; ++layer) {
    cache->region_.layer_base.push_back(static_cast<std::byte*>(mapping) + layer * layer_bytes);
  }
  return cache;
}

KvCache::~KvCache() {
  if (mapping_ != nullptr) munmap(mapping_, mapping_bytes_);
}

}  // namespace baton
