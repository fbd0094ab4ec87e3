// Ways between a device's KV memory and slots of the same memory, which a transport reads and
// writes itself: no byte of KV goes through the host.
#pragma once

#include <cstdint>
#include <memory>

#include "absl/status/statusor.h"
#include "common/kv_layout.h"
#include "common/kv_staging.h"

namespace baton {

// A copy is a kernel that gathers or scatters the blocks, and the checksum of the slot, on one of a
// few streams of their own: the slots take turns, as the checksum of one is a chain that leaves
// most of the device idle. `region` is of the device and outlives it. See KvStagingFactory for
// errors. REQUIRES: blocks of a multiple of 16 bytes, at least 256.
absl::StatusOr<std::unique_ptr<KvDeviceStaging>> CreateCudaDeviceStaging(int32_t device,
                                                                         const KvRegion& region,
                                                                         const KvSlots& slots);

}  // namespace baton
