// Ways between KV memory of devices and pinned host memory, beside what the devices compute.
#pragma once

#include <cstddef>
#include <cstdint>
#include <memory>
#include <vector>

#include "absl/status/statusor.h"
#include "common/kv_staging.h"
#include "engine/model/cuda/cuda_kv_part.h"

namespace baton {

// In a staging's memory a block has all heads, those of the first part first. Of `copies`
// neighbouring parts, which have the same heads, the first is read, and all are written. Between
// pools and host memory the devices' copy engines do the copies, on a stream of each: one copy for
// each run of neighbouring blocks; a copy is done when those of all parts are, and fails when one
// of them does. Slots are in the first part's device's memory, which reaches the others' for them.
class CudaKvStagingFactory final : public KvStagingFactory {
 public:
  // REQUIRES: at least one part, all of one layout and number of blocks; `copies` divides them.
  explicit CudaKvStagingFactory(std::vector<CudaKvPart> parts, int32_t copies = 1);
  absl::StatusOr<std::unique_ptr<KvStaging>> Create(size_t bytes) override;
  absl::StatusOr<std::unique_ptr<KvDeviceStaging>> CreateOnDevice(const KvSlots& slots) override;
  absl::StatusOr<MemoryKind> device_memory() const override;

 private:
  // All parts, from the first one's device, which is the calling thread's afterwards.
  absl::StatusOr<std::vector<ReachedKvPart>> Reach() const;

  const std::vector<CudaKvPart> parts_;
  const int32_t copies_;
};

}  // namespace baton
