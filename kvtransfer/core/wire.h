// The headers that cross a connection, one struct a message. Byte diagrams: docs/wire_format.md.
//
// Decoding checks every length and every reserved byte: a header that does not decode closes the
// connection. Whether a well-formed message is *allowed* is for the cores to say.
#pragma once

#include <cstddef>
#include <cstdint>
#include <string>
#include <string_view>
#include <variant>

#include "absl/status/statusor.h"
#include "common/ids.h"
#include "common/kv_layout.h"
#include "kvtransfer/handoff.h"
#include "kvtransfer/ticket.h"

namespace baton {

inline constexpr uint8_t kKvProtocolVersion = 2;
inline constexpr size_t kTicketBytes = 64;
inline constexpr size_t kMaxWorkerNameBytes = 64;
inline constexpr size_t kMaxGoodbyeBytes = 512;

// First message each way on a connection.
struct HelloMessage {
  BootId boot;
  uint64_t layout_fingerprint = 0;
  KvLayout layout;
  std::string worker_name;  // at most kMaxWorkerNameBytes
};
// A handoff is about to be sent on this connection.
struct BeginMessage {
  Ticket ticket;
};
// Payload: logical blocks [first_block, first_block + num_blocks) of `layer`, one after another.
struct BlocksMessage {
  Ticket ticket;
  int32_t layer = 0;
  int32_t first_block = 0;
  int32_t num_blocks = 0;
  uint64_t payload_bytes = 0;
  uint64_t checksum = 0;  // XXH3-64 of the payload
};
// Everything was sent.
struct TailMessage {
  Ticket ticket;
  HandoffTail tail;
};
// Receiver to sender: every byte has landed and its checksum holds.
struct SealedMessage {
  Ticket ticket;
};
// Either way: the handoff is over on my side.
struct AbortMessage {
  Ticket ticket;
  HandoffFailure failure = HandoffFailure::kAborted;
};
// Asked of a silent peer while a handoff is open.
struct PingMessage {};
struct PongMessage {};
// The last message of a refused connection.
struct GoodbyeMessage {
  std::string reason;  // at most kMaxGoodbyeBytes
};

using WireMessage =
    std::variant<HelloMessage, BeginMessage, BlocksMessage, TailMessage, SealedMessage,
                 AbortMessage, PingMessage, PongMessage, GoodbyeMessage>;

std::string EncodeMessage(const WireMessage& message);
absl::StatusOr<WireMessage> DecodeMessage(std::string_view header);

}  // namespace baton
