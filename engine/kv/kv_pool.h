// The memory of a paged KV cache, wherever it is. Which block belongs to whom is BlockPool's
// business.
#pragma once

#include "common/kv_layout.h"
#include "common/kv_staging.h"

namespace baton {

// Addresses never change. Concurrent access to different blocks is the callers' own agreement.
class KvPool {
 public:
  virtual ~KvPool() = default;
  virtual const KvRegion& region() const = 0;
  // Null: the region is host memory. Else it is a device's, and this is the way there.
  virtual KvStagingFactory* staging() { return nullptr; }
};

}  // namespace baton
