#include "engine/kv/kv_cache.h"

#include <sys/mman.h>
#include <unistd.h>

#include "absl/status/status.h"
#include "absl/strings/str_cat.h"

namespace baton {

absl::StatusOr<std::unique_ptr<KvCache>> KvCache::Create(const KvLayout& layout,
                                                         int32_t num_blocks) {
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
    mapping = mmap(nullptr, static_cast<size_t>(bytes), PROT_READ | PROT_WRITE,
                   MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
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
