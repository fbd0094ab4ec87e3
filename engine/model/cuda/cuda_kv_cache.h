// The memory of the paged KV cache on a device. Which block belongs to whom is BlockPool's
// business.
#pragma once

#include <cstddef>
#include <cstdint>
#include <memory>

#include "absl/status/statusor.h"
#include "common/kv_layout.h"
#include "engine/kernels/cuda/device_array.h"

namespace baton {

// Owns one array, zeroed when it is made: the region's addresses are the device's, for kernels and
// copies, not for the host. Addresses never change.
class CudaKvCache {
 public:
  // RESOURCE_EXHAUSTED names the bytes asked for, what the device has, and what would fit.
  static absl::StatusOr<std::unique_ptr<CudaKvCache>> Create(int32_t device, const KvLayout& layout,
                                                             int32_t num_blocks);

  const KvRegion& region() const { return region_; }
  const KvLayout& layout() const { return region_.layout; }

 private:
  CudaKvCache() = default;
  DeviceArray<std::byte> memory_;
  KvRegion region_;
};

// How many blocks fit into `share`, above 0 and at most 1, of what is free on the device now: to be
// asked once the model is loaded. NOT_FOUND: there is no such device.
absl::StatusOr<int32_t> CudaKvBlocksThatFit(int32_t device, const KvLayout& layout, double share);

}  // namespace baton
