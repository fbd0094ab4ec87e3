// The parts of a worker's KV that several devices have, and how one of them reaches the others'.
#pragma once

#include <cstddef>
#include <cstdint>
#include <string>

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

// A part as kernels of a device read and write it: its own one, or over NVLink or PCIe that of
// another device. Move-only.
class ReachedKvPart {
 public:
  // Memory of another process is opened once more, for `device`: for kernels of that device alone,
  // which need nothing of the process that has it. FAILED_PRECONDITION: `device` does not reach it.
  // `device` is the calling thread's afterwards.
  static absl::StatusOr<ReachedKvPart> Open(int32_t device, const CudaKvPart& part);
  ReachedKvPart(ReachedKvPart&& other) noexcept;
  ReachedKvPart& operator=(ReachedKvPart&&) = delete;
  ~ReachedKvPart();

  // The first byte of the layer's blocks.
  std::byte* Layer(int32_t layer) const {
    const auto& bases = region_->layer_base;
    return base_ + (bases[static_cast<size_t>(layer)] - bases[0]);
  }

 private:
  ReachedKvPart(int32_t device, const KvRegion* region) : device_(device), region_(region) {}

  const int32_t device_;
  const KvRegion* const region_;
  std::byte* base_ = nullptr;  // where the region begins for `device_`
  bool opened_ = false;        // and is to be closed
};

}  // namespace baton
