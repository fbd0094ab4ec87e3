// The memory of the paged KV cache on the host.
#pragma once

#include <cstddef>
#include <memory>

#include "absl/status/statusor.h"
#include "common/kv_layout.h"
#include "engine/kv/kv_pool.h"

namespace baton {

// Owns one page-aligned mapping (huge pages where the system gives them), zeroed when it is made.
// Not copyable.
class KvCache final : public KvPool {
 public:
  // RESOURCE_EXHAUSTED names the bytes asked for and what the machine has.
  static absl::StatusOr<std::unique_ptr<KvCache>> Create(const KvLayout& layout,
                                                         int32_t num_blocks);
  // In `shared_fd`, an empty memory file, so that another process can attach to it.
  static absl::StatusOr<std::unique_ptr<KvCache>> CreateShared(const KvLayout& layout,
                                                               int32_t num_blocks, int shared_fd);
  // The cache that another process has made in `shared_fd`, with the same layout and blocks.
  // FAILED_PRECONDITION: the file is not as long.
  static absl::StatusOr<std::unique_ptr<KvCache>> Attach(const KvLayout& layout, int32_t num_blocks,
                                                         int shared_fd);
  ~KvCache() override;
  KvCache(const KvCache&) = delete;
  KvCache& operator=(const KvCache&) = delete;

  const KvRegion& region() const override { return region_; }
  const KvLayout& layout() const { return region_.layout; }

 private:
  KvCache() = default;
  static absl::StatusOr<std::unique_ptr<KvCache>> Map(const KvLayout& layout, int32_t num_blocks,
                                                      int shared_fd, bool attach);
  KvRegion region_;
  void* mapping_ = nullptr;
  size_t mapping_bytes_ = 0;
};

}  // namespace baton
