// Ways between KV memory of devices and pinned host memory, beside what the devices compute.
#pragma once

#include <cstddef>
#include <cstdint>
#include <memory>
#include <optional>
#include <vector>

#include "absl/status/statusor.h"
#include "common/kv_layout.h"
#include "common/kv_staging.h"

namespace baton {

// What one device has of a worker's KV: as many heads of every block as the others, in their order.
struct CudaKvPart {
  int32_t device = 0;
  const KvRegion* region = nullptr;  // of that device; outlives what is made of this
};

// The devices' copy engines do the copies, on a stream of each: one copy for each run of
// neighbouring blocks. In host memory a block has all heads, those of the first part first; a copy
// is done when those of all parts are, and fails when one of them does. Of `copies` neighbouring
// parts, which have the same heads, the first is read, and all are written.
class CudaKvStagingFactory final : public KvStagingFactory {
 public:
  // REQUIRES: at least one part, all of one layout and number of blocks; `copies` divides them.
  explicit CudaKvStagingFactory(std::vector<CudaKvPart> parts, int32_t copies = 1);
  absl::StatusOr<std::unique_ptr<KvStaging>> Create(size_t bytes) override;
  // Only of one part.
  absl::StatusOr<std::unique_ptr<KvDeviceStaging>> CreateOnDevice(const KvSlots& slots) override;
  std::optional<MemoryKind> device_memory() const override;

 private:
  const std::vector<CudaKvPart> parts_;
  const int32_t copies_;
};

}  // namespace baton
