// The right to write one handoff into one decode worker's landing blocks.
#pragma once

#include <cstdint>
#include <string>
#include <string_view>

#include "absl/status/statusor.h"
#include "common/ids.h"

namespace baton {

// Issued by the receiver at Open, carried opaquely by the router to the sender, named by every
// message of the handoff. Encoded as fixed little-endian bytes (docs/wire_format.md).
struct Ticket {
  RequestKey key;
  BootId receiver_boot;
  uint64_t generation = 0;          // of the receiver, never reused: one for each Open
  uint64_t layout_fingerprint = 0;  // KvLayout::Fingerprint of the receiver
  uint64_t nonce = 0;               // drawn at random: a ticket cannot be guessed
  int32_t first_block = 0;          // logical index of the first missing block
  int32_t num_blocks = 0;           // that must land

  friend bool operator==(const Ticket&, const Ticket&) = default;
};

std::string EncodeTicket(const Ticket& ticket);
absl::StatusOr<Ticket> DecodeTicket(std::string_view bytes);

}  // namespace baton
