#include "engine/runtime/rank_message.h"

#include <gtest/gtest.h>

namespace baton {
namespace {

TEST(RankMessage, APoolComesThrough) {
  const auto message = DecodeRankMessage(EncodePool(77));
  ASSERT_TRUE(message.ok()) << message.status();
  EXPECT_EQ(std::get<RankPool>(*message).num_blocks, 77);
}

TEST(RankMessage, AQuestionComesThrough) {
  const auto message = DecodeRankMessage(EncodeRoom());
  ASSERT_TRUE(message.ok()) << message.status();
  EXPECT_TRUE(std::holds_alternative<RankRoom>(*message));
}

TEST(RankMessage, AWarmUpComesThrough) {
  const auto message = DecodeRankMessage(EncodeWarmUp(48));
  ASSERT_TRUE(message.ok()) << message.status();
  EXPECT_EQ(std::get<RankWarmUp>(*message).max_sequences, 48);
}

TEST(RankMessage, AnAnswerComesThrough) {
  const std::string handle("\x00\x01 any bytes", 12);
  const auto answer = DecodeRankAnswer(EncodeAnswer(RankAnswer{.num_blocks = 9, .handle = handle}));
  ASSERT_TRUE(answer.ok()) << answer.status();
  EXPECT_EQ(answer->num_blocks, 9);
  EXPECT_EQ(answer->handle, handle);
}

TEST(RankMessage, AnErrorIsTheAnswer) {
  const absl::Status error = absl::ResourceExhaustedError("9 KV blocks take 10 MiB");
  EXPECT_EQ(DecodeRankAnswer(EncodeAnswer(error)).status(), error);
}

TEST(RankMessage, WhatIsNoAnswerIsRefused) {
  const std::string frame = EncodeAnswer(RankAnswer{.num_blocks = 1});
  for (size_t length = 0; length < frame.size(); ++length) {
    EXPECT_FALSE(DecodeRankAnswer(frame.substr(0, length)).ok()) << length;
  }
  EXPECT_FALSE(DecodeRankAnswer(EncodeAnswer(RankAnswer{.num_blocks = 0})).ok());
  EXPECT_FALSE(DecodeRankAnswer(EncodeAnswer(RankAnswer{.num_blocks = -1})).ok());
  EXPECT_FALSE(DecodeRankAnswer("\x7f no such code").ok());
}

TEST(RankMessage, CopiesComeThroughInOrder) {
  const KvBlockCopy copies[] = {{BlockId(3), BlockId(4)}, {BlockId(4), BlockId(9)}};
  const auto message = DecodeRankMessage(EncodeCopies(copies));
  ASSERT_TRUE(message.ok()) << message.status();
  const auto& decoded = std::get<RankCopies>(*message).copies;
  ASSERT_EQ(decoded.size(), 2u);
  EXPECT_EQ(decoded[0].to, BlockId(4));
  EXPECT_EQ(decoded[1].from, BlockId(4));
  EXPECT_EQ(decoded[1].to, BlockId(9));
}

struct Step {
  std::vector<TokenId> first_tokens = {5, 6, 7};
  std::vector<BlockId> first_blocks = {BlockId(8), BlockId(2)};
  std::vector<TokenId> second_tokens = {9};
  std::vector<BlockId> second_blocks = {BlockId(1)};
  std::vector<ForwardSequence> batch = {{.tokens = first_tokens,
                                         .start_position = 0,
                                         .block_table = first_blocks,
                                         .first_logit_token = 2},
                                        {.tokens = second_tokens,
                                         .start_position = 12,
                                         .block_table = second_blocks,
                                         .first_logit_token = 0,
                                         .draw = 3}};
};

TEST(RankMessage, AStepComesThrough) {
  const Step step;
  const auto message = DecodeRankMessage(EncodeForward(step.batch));
  ASSERT_TRUE(message.ok()) << message.status();
  const auto& forward = std::get<RankForward>(*message);
  const std::vector<ForwardSequence> batch = forward.Batch();
  ASSERT_EQ(batch.size(), step.batch.size());
  for (size_t i = 0; i < batch.size(); ++i) {
    EXPECT_TRUE(std::ranges::equal(batch[i].tokens, step.batch[i].tokens));
    EXPECT_TRUE(std::ranges::equal(batch[i].block_table, step.batch[i].block_table));
    EXPECT_EQ(batch[i].start_position, step.batch[i].start_position);
    EXPECT_EQ(batch[i].first_logit_token, step.batch[i].first_logit_token);
    EXPECT_EQ(batch[i].draw, step.batch[i].draw);
  }
}

TEST(RankMessage, NoPartOfAMessageIsAMessage) {
  const Step step;
  const KvBlockCopy copies[] = {{BlockId(3), BlockId(4)}};
  for (const std::string& frame : {EncodeRoom(), EncodePool(1), EncodeWarmUp(2),
                                   EncodeCopies(copies), EncodeForward(step.batch)}) {
    for (size_t length = 0; length < frame.size(); ++length) {
      EXPECT_FALSE(DecodeRankMessage(frame.substr(0, length)).ok()) << length;
    }
    EXPECT_FALSE(DecodeRankMessage(frame + "x").ok());
  }
  EXPECT_FALSE(DecodeRankMessage("\x09").ok());
  // A count that asks for more memory than there are bytes.
  EXPECT_FALSE(DecodeRankMessage(std::string("\x02\xff\xff\xff\xff", 5)).ok());
  EXPECT_FALSE(DecodeRankMessage(std::string("\x03\xff\xff\xff\xff", 5)).ok());
}

}  // namespace
}  // namespace baton
