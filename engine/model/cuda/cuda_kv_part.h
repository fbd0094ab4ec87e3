// The parts of a worker's KV that several devices have, and how one of them reaches the others'.
#pragma once

#include <cuda_runtime.h>

#include <cstddef>
#include <cstdint>
#include <string>
#include <string_view>

#include "absl/status/statusor.h"
#include "common/kv_layout.h"

namespace baton {

// What one device has of a worker's KV: as many heads of every block as the others, in their order.
struct CudaKvPart {
  int32_t device = 0;
  const KvRegion* region = nullptr;  // of that device; outlives what is made of this
  // Of memory of another process, that by which it was opened (CudaKvCache::Share); else empty.
  std::string handle;
};

// Memory of another process, as the current device sees it. REQUIRES: a cudaIpcMemHandle_t.
cudaError_t OpenKvHandle(std::string_view handle, std::byte** memory);

// A part as kernels of a device read and write it: its own one, or over NVLink or PCIe that of
// another device. Move-only.
class ReachedKvPart {
 public:
  // Memory of another process is opened once more, for kernels of `device` alone, until that
  // process frees it or ends. FAILED_PRECONDITION: `device` does not reach it; INTERNAL: a device
  // failed. `device` is the calling thread's afterwards.
  static absl::StatusOr<ReachedKvPart> Open(int32_t device, const CudaKvPart& part);

  // Moves a block both ways and has the part's own device say what arrived: with an IOMMU between
  // them devices have been seen that offer peer access and lose what is written, without an error.
  // The block is then as it was. FAILED_PRECONDITION: other bytes arrived. REQUIRES: nothing uses
  // the region's first block, and `device` as above.
  absl::Status Check() const;
  ReachedKvPart(ReachedKvPart&& other) noexcept;
  ReachedKvPart& operator=(ReachedKvPart&&) = delete;
  ~ReachedKvPart();

  // The first byte of the layer's blocks.
  std::byte* Layer(int32_t layer) const {
    const auto& bases = region_->layer_base;
    return base_ + (bases[static_cast<size_t>(layer)] - bases[0]);
  }

 private:
  ReachedKvPart(int32_t device, const CudaKvPart& part)
      : device_(device), owner_(part.device), region_(part.region) {}

  const int32_t device_;
  const int32_t owner_;
  const KvRegion* const region_;
  std::byte* base_ = nullptr;  // where the region begins for `device_`
  bool opened_ = false;        // and is to be closed
};

}  // namespace baton
