// Ways between KV memory of devices and slots in the memory of one of them, which a transport reads
// and writes itself: no byte of KV goes through the host.
#pragma once

#include <cstddef>
#include <cstdint>
#include <memory>
#include <vector>

#include "absl/status/statusor.h"
#include "common/kv_staging.h"
#include "engine/model/cuda/cuda_kv_part.h"

namespace baton {

// The pools whose blocks go to slots: see CudaKvStagingFactory.
struct ReachedKv {
  std::vector<ReachedKvPart> parts;
  size_t copies = 1;
  int64_t block_bytes = 0;  // of one block in a layer of one part
};

// On the calling thread's device, which reaches all parts. A copy is a kernel that gathers or
// scatters the blocks of all parts, and the checksum of the slot, on one of a few streams of their
// own: the slots take turns, as the checksum of one is a chain that leaves most of the device idle.
// See KvStagingFactory for errors. REQUIRES: what a part has of a block's keys is a multiple of 16
// bytes; blocks of all parts are at least kMinChecksumBytes.
absl::StatusOr<std::unique_ptr<KvDeviceStaging>> CreateCudaDeviceStaging(ReachedKv kv,
                                                                         const KvSlots& slots);

}  // namespace baton
