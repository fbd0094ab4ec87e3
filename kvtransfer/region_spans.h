// From block ids to the memory that they name.
#pragma once

#include <span>
#include <vector>

#include "common/kv_layout.h"
#include "kvtransfer/transport.h"

namespace baton {

// The wire carries whole blocks of all heads, however many processes hold them on either side: a
// copy plan says where each piece of such a block lies. Of heads that several processes hold the
// first one's copies are those of the wire. Immutable.
class RegionSpans {
 public:
  explicit RegionSpans(KvMemory memory);

  // The memory of `blocks` in `layer`, in the order of the wire; neighbours make one span.
  std::vector<MemorySpan> Of(int32_t layer, std::span<const BlockId> blocks) const;
  // All that such memory may be.
  std::vector<MemorySpan> All() const;
  // Brings the other processes' copies of these blocks up to those of the wire.
  void WriteCopies(int32_t layer, std::span<const BlockId> blocks) const;
  const KvMemory& memory() const { return memory_; }

 private:
  // Of a block on the wire, in its order.
  struct Piece {
    size_t region = 0;
    int64_t offset = 0;  // in the region's block
    int64_t wire_offset = 0;
    size_t length_bytes = 0;
  };

  const KvMemory memory_;
  std::vector<Piece> pieces_;
};

}  // namespace baton
