// XXH3-64 over a payload that lies in several pieces: the same value as over one contiguous copy.
#pragma once

#include <cstdint>
#include <span>

#include "kvtransfer/transport.h"

namespace baton {

uint64_t ChecksumPieces(std::span<const MemorySpan> pieces);

}  // namespace baton
