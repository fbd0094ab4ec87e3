// The memory of the paged KV cache on a device.
#pragma once

#include <cstddef>
#include <cstdint>
#include <memory>
#include <optional>

#include "absl/status/statusor.h"
#include "common/kv_layout.h"
#include "engine/kernels/cuda/device_array.h"
#include "engine/kv/kv_pool.h"

namespace baton {

// Owns one array, zeroed when it is made: the region's addresses are the device's, for kernels and
// copies, not for the host.
class CudaKvCache final : public KvPool {
 public:
  // RESOURCE_EXHAUSTED names the bytes asked for, what the device has, and what would fit.
  static absl::StatusOr<std::unique_ptr<CudaKvCache>> Create(int32_t device, const KvLayout& layout,
                                                             int32_t num_blocks);

  const KvRegion& region() const override { return region_; }
  KvStagingFactory* staging() override { return &staging_; }
  const KvLayout& layout() const { return region_.layout; }

 private:
  class StagingFactory final : public KvStagingFactory {
   public:
    StagingFactory(int32_t device, const KvRegion& region) : device_(device), region_(region) {}
    absl::StatusOr<std::unique_ptr<KvStaging>> Create(size_t bytes) override;
    absl::StatusOr<std::unique_ptr<KvDeviceStaging>> CreateOnDevice(const KvSlots& slots) override;
    std::optional<MemoryKind> device_memory() const override;

   private:
    const int32_t device_;
    const KvRegion& region_;
  };
  explicit CudaKvCache(int32_t device) : staging_(device, region_) {}
  DeviceArray<std::byte> memory_;
  KvRegion region_;
  StagingFactory staging_;
};

// How many blocks a process may have that uses `share` of a device's memory, above 0 and at most 1,
// of which `used_bytes` are taken already. RESOURCE_EXHAUSTED: none. NOT_FOUND: there is no such
// device.
absl::StatusOr<int32_t> CudaKvBlocksThatFit(int32_t device, const KvLayout& layout, double share,
                                            int64_t used_bytes);

}  // namespace baton
