// Copies of KV blocks that must not run in any order.
#pragma once

#include <cstddef>
#include <span>

#include "common/kv_layout.h"

namespace baton {

// How many of the first copies, up to `most`, may run at once: no block is written that another one
// of them reads or writes. At least 1 of any.
size_t CountApart(std::span<const KvBlockCopy> copies, size_t most);

}  // namespace baton
