#include "engine/runtime/rank_message.h"

#include "common/bytes.h"
#include "common/strings.h"

namespace baton {
namespace {

enum class MessageType : uint8_t { kPool = 1, kCopies = 2, kForward = 3, kRoom = 4, kWarmUp = 5 };

ByteWriter Start(MessageType type) {
  ByteWriter writer;
  writer.Put<uint8_t>(static_cast<uint8_t>(type));
  return writer;
}

absl::Status Malformed() {
  return absl::InvalidArgumentError("tensor parallelism: a malformed message");
}

// Whether `count` things of `bytes` each can still be there: before memory is taken for them.
bool Fits(const ByteReader& reader, uint32_t count, size_t bytes) {
  return count <= reader.remaining() / bytes;
}

absl::StatusOr<RankMessage> DecodeCopies(ByteReader reader) {
  RankCopies message;
  const auto count = reader.Get<uint32_t>();
  if (!Fits(reader, count, 2 * sizeof(int32_t))) return Malformed();
  for (uint32_t i = 0; i < count; ++i) {
    const auto from = reader.Get<int32_t>();
    message.copies.push_back({.from = BlockId(from), .to = BlockId(reader.Get<int32_t>())});
  }
  if (!reader.ok() || reader.remaining() != 0) return Malformed();
  return message;
}

absl::StatusOr<RankMessage> DecodeForward(ByteReader reader) {
  RankForward message;
  const auto count = reader.Get<uint32_t>();
  if (!Fits(reader, count, sizeof(RankForward::Sequence))) return Malformed();
  int64_t tokens = 0;
  int64_t blocks = 0;
  for (uint32_t i = 0; i < count; ++i) {
    RankForward::Sequence sequence;
    sequence.num_tokens = reader.Get<int32_t>();
    sequence.start_position = reader.Get<int32_t>();
    sequence.num_blocks = reader.Get<int32_t>();
    sequence.first_logit_token = reader.Get<int32_t>();
    sequence.draw = reader.Get<int32_t>();
    if (sequence.num_tokens < 0 || sequence.num_blocks < 0) return Malformed();
    tokens += sequence.num_tokens;
    blocks += sequence.num_blocks;
    message.sequences.push_back(sequence);
  }
  if (!reader.ok() ||
      static_cast<uint64_t>(tokens + blocks) * sizeof(int32_t) != reader.remaining()) {
    return Malformed();
  }
  for (int64_t i = 0; i < tokens; ++i) message.tokens.push_back(reader.Get<int32_t>());
  for (int64_t i = 0; i < blocks; ++i) message.blocks.emplace_back(reader.Get<int32_t>());
  return message;
}

}  // namespace

std::vector<ForwardSequence> RankForward::Batch() const {
  std::vector<ForwardSequence> batch;
  std::span<const TokenId> rest_of_tokens = tokens;
  std::span<const BlockId> rest_of_blocks = blocks;
  for (const Sequence& sequence : sequences) {
    const auto num_tokens = static_cast<size_t>(sequence.num_tokens);
    const auto num_blocks = static_cast<size_t>(sequence.num_blocks);
    batch.push_back({.tokens = rest_of_tokens.first(num_tokens),
                     .start_position = sequence.start_position,
                     .block_table = rest_of_blocks.first(num_blocks),
                     .first_logit_token = sequence.first_logit_token,
                     .draw = sequence.draw});
    rest_of_tokens = rest_of_tokens.subspan(num_tokens);
    rest_of_blocks = rest_of_blocks.subspan(num_blocks);
  }
  return batch;
}

std::string EncodeRoom() { return Start(MessageType::kRoom).Take(); }

std::string EncodePool(int32_t num_blocks) {
  return Start(MessageType::kPool).Put(num_blocks).Take();
}

std::string EncodeWarmUp(int32_t max_sequences) {
  return Start(MessageType::kWarmUp).Put(max_sequences).Take();
}

std::string EncodeCopies(std::span<const KvBlockCopy> copies) {
  ByteWriter writer = Start(MessageType::kCopies);
  writer.Put(static_cast<uint32_t>(copies.size()));
  for (const KvBlockCopy& copy : copies) writer.Put(copy.from.value()).Put(copy.to.value());
  return writer.Take();
}

std::string EncodeForward(std::span<const ForwardSequence> batch) {
  ByteWriter writer = Start(MessageType::kForward);
  writer.Put(static_cast<uint32_t>(batch.size()));
  for (const ForwardSequence& sequence : batch) {
    writer.Put(static_cast<int32_t>(sequence.tokens.size()))
        .Put(sequence.start_position)
        .Put(static_cast<int32_t>(sequence.block_table.size()))
        .Put(sequence.first_logit_token)
        .Put(sequence.draw);
  }
  for (const ForwardSequence& sequence : batch) {
    for (const TokenId token : sequence.tokens) writer.Put(token);
  }
  for (const ForwardSequence& sequence : batch) {
    for (const BlockId block : sequence.block_table) writer.Put(block.value());
  }
  return writer.Take();
}

absl::StatusOr<RankMessage> DecodeRankMessage(std::string_view frame) {
  ByteReader reader(frame);
  const auto type = static_cast<MessageType>(reader.Get<uint8_t>());
  switch (type) {
    case MessageType::kRoom:
      if (reader.remaining() != 0) return Malformed();
      return RankRoom{};
    case MessageType::kPool: {
      const RankPool message{.num_blocks = reader.Get<int32_t>()};
      if (!reader.ok() || reader.remaining() != 0) return Malformed();
      return message;
    }
    case MessageType::kWarmUp: {
      const RankWarmUp message{.max_sequences = reader.Get<int32_t>()};
      if (!reader.ok() || reader.remaining() != 0) return Malformed();
      return message;
    }
    case MessageType::kCopies:
      return DecodeCopies(reader);
    case MessageType::kForward:
      return DecodeForward(reader);
  }
  return Malformed();
}

std::string EncodeAnswer(const absl::StatusOr<RankAnswer>& answer) {
  ByteWriter writer;
  writer.Put(static_cast<uint8_t>(answer.status().code()));
  if (!answer.ok()) return writer.PutBytes(View(answer.status().message())).Take();
  return writer.Put(answer->num_blocks).PutBytes(answer->handle).Take();
}

absl::StatusOr<RankAnswer> DecodeRankAnswer(std::string_view frame) {
  ByteReader reader(frame);
  const auto code = reader.Get<uint8_t>();
  if (!reader.ok() || code > static_cast<uint8_t>(absl::StatusCode::kUnauthenticated)) {
    return Malformed();
  }
  if (code != 0) {
    const std::string_view message = reader.GetBytes(reader.remaining());
    return absl::Status(static_cast<absl::StatusCode>(code),
                        absl::string_view(message.data(), message.size()));
  }
  RankAnswer answer{.num_blocks = reader.Get<int32_t>()};
  if (!reader.ok() || answer.num_blocks < 1) return Malformed();
  answer.handle = reader.GetBytes(reader.remaining());
  return answer;
}

}  // namespace baton
