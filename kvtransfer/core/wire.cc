#include "kvtransfer/core/wire.h"

#include <utility>

#include "absl/strings/str_cat.h"
#include "common/bytes.h"
#include "common/check.h"
#include "common/hash.h"

namespace baton {
namespace {

constexpr uint32_t kMagic = 0x564b5442;  // "BTKV" in memory order

enum class MessageType : uint8_t {
  kHello = 1,
  kBegin = 2,
  kBlocks = 3,
  kTail = 4,
  kSealed = 5,
  kAbort = 6,
  kPing = 7,
  kPong = 8,
  kGoodbye = 9,
};

ByteWriter Start(MessageType type) {
  ByteWriter writer;
  writer.Put<uint32_t>(kMagic)
      .Put<uint8_t>(kKvProtocolVersion)
      .Put<uint8_t>(static_cast<uint8_t>(type))
      .Put<uint16_t>(0);
  return writer;
}

struct Encoder {
  std::string operator()(const HelloMessage& hello) const {
    const std::string_view name =
        std::string_view(hello.worker_name).substr(0, kMaxWorkerNameBytes);
    return Start(MessageType::kHello)
        .Put<uint64_t>(hello.boot.value())
        .Put<uint64_t>(hello.layout_fingerprint)
        .Put<int32_t>(hello.layout.num_layers)
        .Put<int32_t>(hello.layout.num_kv_heads)
        .Put<int32_t>(hello.layout.head_dim)
        .Put<int32_t>(hello.layout.block_size)
        .Put<uint8_t>(static_cast<uint8_t>(hello.layout.dtype))
        .Put<uint8_t>(static_cast<uint8_t>(name.size()))
        .Put<uint16_t>(0)
        .PutBytes(name)
        .Take();
  }
  std::string operator()(const BeginMessage& begin) const {
    return Start(MessageType::kBegin).PutBytes(EncodeTicket(begin.ticket)).Take();
  }
  std::string operator()(const BlocksMessage& blocks) const {
    return Start(MessageType::kBlocks)
        .PutBytes(EncodeTicket(blocks.ticket))
        .Put<int32_t>(blocks.layer)
        .Put<int32_t>(blocks.first_block)
        .Put<int32_t>(blocks.num_blocks)
        .Put<uint32_t>(0)
        .Put<uint64_t>(blocks.payload_bytes)
        .Put<uint64_t>(blocks.checksum)
        .Take();
  }
  std::string operator()(const TailMessage& tail) const {
    const auto& tokens = tail.tail.first_tokens;
    BATON_CHECK(tokens.size() <= size_t{kMaxHandoffSamples}) << tokens.size();
    ByteWriter body;
    body.Put<int32_t>(static_cast<int32_t>(tokens.size()));
    for (const TokenId token : tokens) body.Put<int32_t>(token);
    const std::string bytes = body.Take();
    return Start(MessageType::kTail)
        .PutBytes(EncodeTicket(tail.ticket))
        .Put<uint64_t>(HashString(bytes))
        .PutBytes(bytes)
        .Take();
  }
  std::string operator()(const SealedMessage& sealed) const {
    return Start(MessageType::kSealed).PutBytes(EncodeTicket(sealed.ticket)).Take();
  }
  std::string operator()(const AbortMessage& abort) const {
    return Start(MessageType::kAbort)
        .PutBytes(EncodeTicket(abort.ticket))
        .Put<uint8_t>(static_cast<uint8_t>(abort.failure))
        .PutBytes(std::string(7, '\0'))
        .Take();
  }
  std::string operator()(const PingMessage&) const { return Start(MessageType::kPing).Take(); }
  std::string operator()(const PongMessage&) const { return Start(MessageType::kPong).Take(); }
  std::string operator()(const GoodbyeMessage& goodbye) const {
    return Start(MessageType::kGoodbye)
        .PutBytes(std::string_view(goodbye.reason).substr(0, kMaxGoodbyeBytes))
        .Take();
  }
};

absl::Status Malformed(std::string_view what) {
  return absl::InvalidArgumentError(
      absl::StrCat("malformed KV message: ", absl::string_view(what.data(), what.size())));
}

absl::StatusOr<WireMessage> DecodeHello(ByteReader& reader) {
  HelloMessage hello;
  hello.boot = BootId(reader.Get<uint64_t>());
  hello.layout_fingerprint = reader.Get<uint64_t>();
  hello.layout.num_layers = reader.Get<int32_t>();
  hello.layout.num_kv_heads = reader.Get<int32_t>();
  hello.layout.head_dim = reader.Get<int32_t>();
  hello.layout.block_size = reader.Get<int32_t>();
  const auto dtype = reader.Get<uint8_t>();
  const auto name_bytes = reader.Get<uint8_t>();
  const auto reserved = reader.Get<uint16_t>();
  if (!reader.ok() || name_bytes > kMaxWorkerNameBytes || reserved != 0) return Malformed("hello");
  if (dtype < static_cast<uint8_t>(KvDtype::kBf16) ||
      dtype > static_cast<uint8_t>(KvDtype::kInt8)) {
    return Malformed("hello names an unknown dtype");
  }
  hello.layout.dtype = static_cast<KvDtype>(dtype);
  hello.worker_name = std::string(reader.GetBytes(name_bytes));
  return hello;
}

absl::StatusOr<WireMessage> DecodeBlocks(const Ticket& ticket, ByteReader& reader) {
  BlocksMessage blocks;
  blocks.ticket = ticket;
  blocks.layer = reader.Get<int32_t>();
  blocks.first_block = reader.Get<int32_t>();
  blocks.num_blocks = reader.Get<int32_t>();
  if (reader.Get<uint32_t>() != 0) return Malformed("blocks has reserved bytes set");
  blocks.payload_bytes = reader.Get<uint64_t>();
  blocks.checksum = reader.Get<uint64_t>();
  return blocks;
}

absl::StatusOr<WireMessage> DecodeTail(const Ticket& ticket, ByteReader& reader) {
  TailMessage tail;
  tail.ticket = ticket;
  const auto checksum = reader.Get<uint64_t>();
  const std::string_view body = reader.GetBytes(reader.remaining());
  ByteReader fields(body);
  const auto count = fields.Get<int32_t>();
  if (count < 0 || count > kMaxHandoffSamples) return Malformed("tail counts too many tokens");
  for (int32_t i = 0; i < count; ++i) tail.tail.first_tokens.push_back(fields.Get<int32_t>());
  if (!fields.ok() || fields.remaining() != 0) return Malformed("tail length");
  if (HashString(body) != checksum) return Malformed("tail checksum");
  return tail;
}

absl::StatusOr<WireMessage> DecodeTicketed(MessageType type, ByteReader& reader) {
  ASSIGN_OR_RETURN(const Ticket ticket, DecodeTicket(reader.GetBytes(kTicketBytes)));
  switch (type) {
    case MessageType::kBegin:
      return BeginMessage{ticket};
    case MessageType::kBlocks:
      return DecodeBlocks(ticket, reader);
    case MessageType::kTail:
      return DecodeTail(ticket, reader);
    case MessageType::kSealed:
      return SealedMessage{ticket};
    case MessageType::kAbort: {
      const auto failure = reader.Get<uint8_t>();
      const std::string_view reserved = reader.GetBytes(7);
      if (failure >= kNumHandoffFailures || reserved != std::string_view("\0\0\0\0\0\0\0", 7)) {
        return Malformed("abort");
      }
      return AbortMessage{ticket, static_cast<HandoffFailure>(failure)};
    }
    default:
      return Malformed("unknown type");
  }
}

absl::StatusOr<WireMessage> DecodeBody(MessageType type, ByteReader& reader) {
  switch (type) {
    case MessageType::kHello:
      return DecodeHello(reader);
    case MessageType::kPing:
      return PingMessage{};
    case MessageType::kPong:
      return PongMessage{};
    case MessageType::kGoodbye:
      if (reader.remaining() > kMaxGoodbyeBytes) return Malformed("goodbye is too long");
      return GoodbyeMessage{std::string(reader.GetBytes(reader.remaining()))};
    default:
      return DecodeTicketed(type, reader);
  }
}

}  // namespace

std::string EncodeMessage(const WireMessage& message) { return std::visit(Encoder{}, message); }

absl::StatusOr<WireMessage> DecodeMessage(std::string_view header) {
  ByteReader reader(header);
  if (reader.Get<uint32_t>() != kMagic) return Malformed("wrong magic");
  const auto version = reader.Get<uint8_t>();
  const auto type = reader.Get<uint8_t>();
  const auto reserved = reader.Get<uint16_t>();
  if (!reader.ok()) return Malformed("shorter than its prefix");
  if (version != kKvProtocolVersion) {
    return absl::FailedPreconditionError(absl::StrCat(
        "KV protocol version ", version, ", this worker speaks version ", kKvProtocolVersion));
  }
  if (reserved != 0) return Malformed("reserved bytes set");
  ASSIGN_OR_RETURN(WireMessage message, DecodeBody(static_cast<MessageType>(type), reader));
  if (!reader.ok()) return Malformed("shorter than its fields");
  if (reader.remaining() != 0) return Malformed("longer than its fields");
  return message;
}

}  // namespace baton
