// The right to write one handoff into one decode worker's landing blocks.
#pragma once

#include <array>
#include <cstdint>
#include <string>
#include <string_view>

#include "absl/status/statusor.h"
#include "common/ids.h"

namespace baton {

using TicketMac = std::array<uint8_t, 16>;

// Issued by the receiver at Open, carried opaquely by the router to the sender, named by every
// message of the handoff. Encoded as fixed little-endian bytes (docs/wire_format.md).
struct Ticket {
  RequestKey key;
  BootId receiver_boot;
  uint64_t generation = 0;          // of the receiver, never reused: one for each Open
  uint64_t layout_fingerprint = 0;  // KvLayout::Fingerprint of the receiver
  int32_t first_block = 0;          // logical index of the first missing block
  int32_t num_blocks = 0;           // that must land
  TicketMac mac = {};               // SignTicket's: without the key no ticket can be made up

  // In constant time: how much of a guess is right does not show.
  friend bool operator==(const Ticket& a, const Ticket& b);
};

// Of every other field, by the receiver's key: the first 16 bytes of their HMAC-SHA256.
TicketMac SignTicket(const Ticket& ticket, std::string_view key);

std::string EncodeTicket(const Ticket& ticket);
absl::StatusOr<Ticket> DecodeTicket(std::string_view bytes);

}  // namespace baton
