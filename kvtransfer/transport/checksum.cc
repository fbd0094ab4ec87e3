#include "kvtransfer/transport/checksum.h"

#include <xxhash.h>

#include "common/check.h"

namespace baton {

uint64_t ChecksumPieces(std::span<const MemorySpan> pieces) {
  if (pieces.size() == 1) return XXH3_64bits(pieces[0].data, pieces[0].length_bytes);
  XXH3_state_t* state = XXH3_createState();
  BATON_CHECK(state != nullptr);
  XXH3_64bits_reset(state);
  for (const MemorySpan& piece : pieces) {
    XXH3_64bits_update(state, piece.data, piece.length_bytes);
  }
  const uint64_t checksum = XXH3_64bits_digest(state);
  XXH3_freeState(state);
  return checksum;
}

}  // namespace baton
