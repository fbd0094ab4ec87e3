// The memory of the paged KV cache on a device.
#pragma once

#include <cstddef>
#include <cstdint>
#include <memory>
#include <string>
#include <string_view>

#include "absl/status/statusor.h"
#include "common/kv_layout.h"
#include "engine/kernels/cuda/device_array.h"
#include "engine/kv/kv_pool.h"
#include "engine/model/cuda/cuda_kv_part.h"
#include "engine/model/cuda/cuda_kv_staging.h"

namespace baton {

// One array, zeroed when it is made: the region's addresses are the device's, for kernels and
// copies, not for the host.
class CudaKvCache final : public KvPool {
 public:
  // RESOURCE_EXHAUSTED names the bytes asked for, what the device has, and what would fit.
  static absl::StatusOr<std::unique_ptr<CudaKvCache>> Create(int32_t device, const KvLayout& layout,
                                                             int32_t num_blocks);
  // The cache that another process of this machine has made on `device`, with the same layout and
  // blocks; `handle` is what its Share has given. That process lives as long as this is used.
  // INVALID_ARGUMENT: no handle; INTERNAL: CUDA does not open it.
  static absl::StatusOr<std::unique_ptr<CudaKvCache>> Attach(int32_t device, const KvLayout& layout,
                                                             int32_t num_blocks,
                                                             std::string_view handle);
  ~CudaKvCache() override;
  CudaKvCache(const CudaKvCache&) = delete;
  CudaKvCache& operator=(const CudaKvCache&) = delete;

  // For Attach in another process. REQUIRES: made by Create.
  absl::StatusOr<std::string> Share();

  const KvRegion& region() const override { return region_; }
  KvStagingFactory* staging() override { return &staging_; }
  const KvLayout& layout() const { return region_.layout; }
  CudaKvPart part() const { return {.device = device_, .region = &region_, .handle = handle_}; }

 private:
  CudaKvCache(int32_t device, const KvLayout& layout, int32_t num_blocks)
      : device_(device), region_{.layout = layout, .num_blocks = num_blocks}, staging_({part()}) {}
  size_t LayerBytes() const;
  void UseMemory(std::byte* memory);

  const int32_t device_;
  DeviceArray<std::byte> memory_;
  std::byte* attached_ = nullptr;  // instead of it
  std::string handle_;             // of attached_
  KvRegion region_;
  CudaKvStagingFactory staging_;
};

// How many blocks a process may have that uses `share` of a device's memory, above 0 and at most 1,
// of which `used_bytes` are taken already. RESOURCE_EXHAUSTED: none. NOT_FOUND: there is no such
// device.
absl::StatusOr<int32_t> CudaKvBlocksThatFit(int32_t device, const KvLayout& layout, double share,
                                            int64_t used_bytes);

}  // namespace baton
