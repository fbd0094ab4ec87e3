// From block ids to the memory that they name.
#pragma once

#include <span>
#include <vector>

#include "common/kv_layout.h"
#include "kvtransfer/transport.h"

namespace baton {

// The memory of `blocks` in `layer`, in order; neighbouring blocks make one span.
std::vector<MemorySpan> SpansOf(const KvRegion& region, int32_t layer,
                                std::span<const BlockId> blocks);

}  // namespace baton
