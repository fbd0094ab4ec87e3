#include "kvtransfer/ticket.h"

#include <algorithm>

#include "absl/strings/str_cat.h"
#include "common/bytes.h"
#include "common/crypto.h"
#include "kvtransfer/core/wire.h"

namespace baton {
namespace {

constexpr uint8_t kTicketVersion = 2;

}  // namespace

std::string EncodeTicket(const Ticket& ticket) {
  return ByteWriter()
      .Put<uint8_t>(kTicketVersion)
      .Put<uint8_t>(0)
      .Put<uint16_t>(0)
      .Put<uint32_t>(ticket.key.attempt)
      .Put<uint64_t>(ticket.key.request.value())
      .Put<uint64_t>(ticket.receiver_boot.value())
      .Put<uint64_t>(ticket.generation)
      .Put<uint64_t>(ticket.layout_fingerprint)
      .Put<int32_t>(ticket.first_block)
      .Put<int32_t>(ticket.num_blocks)
      .PutBytes({reinterpret_cast<const char*>(ticket.mac.data()), ticket.mac.size()})
      .Take();
}

bool operator==(const Ticket& a, const Ticket& b) {
  return EqualInConstantTime(EncodeTicket(a), EncodeTicket(b));
}

TicketMac SignTicket(const Ticket& ticket, std::string_view key) {
  const std::string bytes = EncodeTicket(ticket);
  const Sha256Digest digest =
      HmacSha256(key, std::string_view(bytes).substr(0, bytes.size() - ticket.mac.size()));
  TicketMac mac;
  std::copy_n(digest.begin(), mac.size(), mac.begin());
  return mac;
}

absl::StatusOr<Ticket> DecodeTicket(std::string_view bytes) {
  if (bytes.size() != kTicketBytes) {
    return absl::InvalidArgumentError(
        absl::StrCat("ticket has ", bytes.size(), " bytes, expected ", kTicketBytes));
  }
  ByteReader reader(bytes);
  const auto version = reader.Get<uint8_t>();
  if (version != kTicketVersion) {
    return absl::InvalidArgumentError(
        absl::StrCat("ticket version ", version, ", expected ", kTicketVersion));
  }
  if (reader.Get<uint8_t>() != 0 || reader.Get<uint16_t>() != 0) {
    return absl::InvalidArgumentError("ticket has bits set in its reserved bytes");
  }
  Ticket ticket;
  ticket.key.attempt = reader.Get<uint32_t>();
  ticket.key.request = RequestId(reader.Get<uint64_t>());
  ticket.receiver_boot = BootId(reader.Get<uint64_t>());
  ticket.generation = reader.Get<uint64_t>();
  ticket.layout_fingerprint = reader.Get<uint64_t>();
  ticket.first_block = reader.Get<int32_t>();
  ticket.num_blocks = reader.Get<int32_t>();
  const std::string_view mac = reader.GetBytes(ticket.mac.size());
  std::copy(mac.begin(), mac.end(), ticket.mac.begin());
  if (ticket.first_block < 0 || ticket.num_blocks < 0 ||
      int64_t{ticket.first_block} + ticket.num_blocks > INT32_MAX) {
    return absl::InvalidArgumentError(absl::StrCat("ticket blocks [", ticket.first_block, ", +",
                                                   ticket.num_blocks, ") are out of range"));
  }
  return ticket;
}

}  // namespace baton
