// Tickets and wire headers: round trips, byte-exact samples, and hostile bytes.
#include "kvtransfer/core/wire.h"

#include <gtest/gtest.h>

#include <string>

#include "common/hash.h"
#include "kvtransfer/ticket.h"

namespace baton {
namespace {

Ticket SampleTicket() {
  return {{RequestId(0x1122334455667788u), 3}, BootId(0xa1a2a3a4a5a6a7a8u), 7, 9, 4, 32, {11}};
}

std::vector<WireMessage> Samples() {
  const KvLayout layout{.num_layers = 24, .num_kv_heads = 4, .head_dim = 64, .block_size = 16};
  return {
      HelloMessage{BootId(5), 6, layout, "prefill-0"},
      BeginMessage{SampleTicket()},
      BlocksMessage{SampleTicket(), 3, 5, 7, 7 * 16384, 0xfeedfacecafebeefu},
      TailMessage{SampleTicket(), {{1, 2, 151'643}}},
      SealedMessage{SampleTicket()},
      AbortMessage{SampleTicket(), HandoffFailure::kChecksum},
      PingMessage{},
      PongMessage{},
      GoodbyeMessage{"models differ"},
  };
}

TEST(TicketTest, SurvivesARoundTripInExactlyItsBytes) {
  const std::string bytes = EncodeTicket(SampleTicket());
  ASSERT_EQ(bytes.size(), kTicketBytes);
  EXPECT_EQ(DecodeTicket(bytes).value(), SampleTicket());
  // docs/wire_format.md: version, 3 reserved, attempt, request ...
  EXPECT_EQ(bytes.substr(0, 16),
            std::string("\x02\0\0\0\x03\0\0\0\x88\x77\x66\x55\x44\x33\x22\x11", 16));
}

TEST(TicketTest, RefusesEveryOtherLengthAndEveryReservedBit) {
  const std::string bytes = EncodeTicket(SampleTicket());
  for (size_t length = 0; length < bytes.size(); ++length) {
    EXPECT_FALSE(DecodeTicket(std::string_view(bytes).substr(0, length)).ok()) << length;
  }
  EXPECT_FALSE(DecodeTicket(bytes + '\0').ok());
  for (size_t at = 0; at < 4; ++at) {
    std::string bad = bytes;
    bad[at] = static_cast<char>(bad[at] ^ 0x40);
    EXPECT_FALSE(DecodeTicket(bad).ok()) << at;
  }
}

TEST(TicketTest, ItsMacIsOfEveryFieldAndTheKey) {
  const Ticket ticket = SampleTicket();
  const TicketMac mac = SignTicket(ticket, "key");
  EXPECT_EQ(SignTicket(ticket, "key"), mac);
  EXPECT_NE(SignTicket(ticket, "yek"), mac);
  const std::string bytes = EncodeTicket(ticket);
  for (size_t at = 4; at < bytes.size(); ++at) {
    std::string other = bytes;
    other[at] = static_cast<char>(other[at] ^ 1);
    const Ticket changed = DecodeTicket(other).value();
    EXPECT_FALSE(changed == ticket) << at;
    const bool in_mac = at >= bytes.size() - mac.size();
    EXPECT_EQ(SignTicket(changed, "key") == mac, in_mac) << at;
  }
}

TEST(TicketTest, RefusesBlocksOutOfRange) {
  Ticket ticket = SampleTicket();
  ticket.num_blocks = -1;
  EXPECT_FALSE(DecodeTicket(EncodeTicket(ticket)).ok());
  ticket.num_blocks = INT32_MAX;
  ticket.first_block = 1;
  EXPECT_FALSE(DecodeTicket(EncodeTicket(ticket)).ok());
}

TEST(WireTest, EveryMessageSurvivesARoundTrip) {
  for (const WireMessage& message : Samples()) {
    const std::string bytes = EncodeMessage(message);
    EXPECT_LE(bytes.size(), Connection::kMaxHeaderBytes);
    const auto decoded = DecodeMessage(bytes);
    ASSERT_TRUE(decoded.ok()) << message.index() << ": " << decoded.status();
    EXPECT_EQ(decoded->index(), message.index());
    EXPECT_EQ(EncodeMessage(*decoded), bytes);
  }
}

TEST(WireTest, TheLargestTailFitsAHeader) {
  TailMessage tail{SampleTicket(), {}};
  tail.tail.first_tokens.assign(kMaxHandoffSamples, 7);
  const std::string bytes = EncodeMessage(tail);
  EXPECT_LE(bytes.size(), Connection::kMaxHeaderBytes);
  EXPECT_TRUE(DecodeMessage(bytes).ok());
}

TEST(WireTest, EveryTruncationAndExtensionIsRefused) {
  for (const WireMessage& message : Samples()) {
    if (std::holds_alternative<GoodbyeMessage>(message)) continue;  // its text may have any length
    const std::string bytes = EncodeMessage(message);
    for (size_t length = 0; length < bytes.size(); ++length) {
      EXPECT_FALSE(DecodeMessage(std::string_view(bytes).substr(0, length)).ok())
          << message.index() << " cut to " << length;
    }
    EXPECT_FALSE(DecodeMessage(bytes + 'x').ok()) << message.index();
  }
}

TEST(WireTest, AnotherProtocolVersionIsNamed) {
  std::string bytes = EncodeMessage(PingMessage{});
  bytes[4] = 9;
  const auto decoded = DecodeMessage(bytes);
  ASSERT_FALSE(decoded.ok());
  EXPECT_NE(decoded.status().message().find("version 9"), absl::string_view::npos);
}

TEST(WireTest, AFlippedBitInATailIsSeen) {
  const std::string bytes = EncodeMessage(TailMessage{SampleTicket(), {{1, 2, 3}}});
  for (size_t at = 8 + kTicketBytes; at < bytes.size(); ++at) {
    std::string bad = bytes;
    bad[at] = static_cast<char>(bad[at] ^ 0x01);
    EXPECT_FALSE(DecodeMessage(bad).ok()) << at;
  }
}

// What decodes must encode to the same bytes: no two headers mean the same.
TEST(WireFuzz, MutatedAndRandomHeadersNeverCrashAndDecodeCanonically) {
  constexpr uint64_t kSeed = 20260101;
  uint64_t drawn = 0;
  const auto draw = [&] { return HashCombine(kSeed, ++drawn); };
  const std::vector<WireMessage> samples = Samples();
  int decoded_count = 0;
  for (int round = 0; round < 200'000; ++round) {
    std::string bytes = EncodeMessage(samples[draw() % samples.size()]);
    const uint64_t edits = draw() % 4;
    for (uint64_t i = 0; i < edits && !bytes.empty(); ++i) {
      switch (draw() % 4) {
        case 0:
          bytes[draw() % bytes.size()] = static_cast<char>(draw());
          break;
        case 1:
          bytes.resize(draw() % (bytes.size() + 1));
          break;
        case 2:
          bytes.insert(draw() % (bytes.size() + 1), 1 + draw() % 8, static_cast<char>(draw()));
          break;
        default:
          bytes[draw() % bytes.size()] ^= static_cast<char>(1 << (draw() % 8));
      }
    }
    const auto decoded = DecodeMessage(bytes);
    if (!decoded.ok()) continue;
    ++decoded_count;
    ASSERT_EQ(EncodeMessage(*decoded), bytes) << "seed " << kSeed << " round " << round;
  }
  EXPECT_GT(decoded_count, 10'000);
}

}  // namespace
}  // namespace baton
