#include "engine/model/cuda/block_copies.h"

#include <algorithm>

namespace baton {

size_t CountApart(std::span<const KvBlockCopy> copies, size_t most) {
  const size_t end = std::min(copies.size(), most);
  for (size_t i = 1; i < end; ++i) {
    const KvBlockCopy& next = copies[i];
    const bool meets = std::ranges::any_of(copies.first(i), [&](const KvBlockCopy& earlier) {
      return next.from == earlier.to || next.to == earlier.to || next.to == earlier.from;
    });
    if (meets) return i;
  }
  return end;
}

}  // namespace baton
