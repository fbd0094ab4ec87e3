// Ways between a device's KV memory and pinned host memory, beside what the device computes.
#pragma once

#include <cstddef>
#include <memory>

#include "absl/status/statusor.h"
#include "common/kv_layout.h"
#include "common/kv_staging.h"

namespace baton {

// The device's copy engines do the copies, on a stream of their own: one for each run of
// neighbouring blocks. `region` is of the device and outlives it. See KvStagingFactory for errors.
absl::StatusOr<std::unique_ptr<KvStaging>> CreateCudaKvStaging(int32_t device,
                                                               const KvRegion& region,
                                                               size_t bytes);

}  // namespace baton
