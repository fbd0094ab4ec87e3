// The memory of the paged KV cache. Which block belongs to whom is BlockPool's business.
#pragma once

#include <cstddef>
#include <memory>

#include "absl/status/statusor.h"
#include "common/kv_layout.h"

namespace baton {

// Owns one zeroed, page-aligned mapping (huge pages where the system gives them). Not copyable;
// addresses never change. Concurrent access to different blocks is the callers' own agreement.
class KvCache {
 public:
  // RESOURCE_EXHAUSTED names the bytes asked for and what the machine has.
  static absl::StatusOr<std::unique_ptr<KvCache>> Create(const KvLayout& layout,
                                                         int32_t num_blocks);
  ~KvCache();
  KvCache(const KvCache&) = delete;
  KvCache& operator=(const KvCache&) = delete;

  const KvRegion& region() const { return region_; }
  const KvLayout& layout() const { return region_.layout; }

 private:
  KvCache() = default;
  KvRegion region_;
  void* mapping_ = nullptr;
  size_t mapping_bytes_ = 0;
};

}  // namespace baton
