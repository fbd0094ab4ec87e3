// What rank 0 of a tensor-parallel group and the others tell one another, as bytes of a
// RankChannel.
//
// The ranks are one executable's processes on one machine: the format has no version. It is checked
// all the same, so that a bug ends in an error and not in a wrong address.
#pragma once

#include <cstdint>
#include <span>
#include <string>
#include <string_view>
#include <variant>
#include <vector>

#include "absl/status/statusor.h"
#include "common/ids.h"
#include "common/kv_layout.h"
#include "engine/model/model.h"

namespace baton {

// For how many KV blocks have you room? Answered.
struct RankRoom {};
// Make your KV cache. Answered.
struct RankPool {
  int32_t num_blocks = 0;
};
// As Model::WarmUp; not answered.
struct RankWarmUp {
  int32_t max_sequences = 0;
};
struct RankCopies {
  std::vector<KvBlockCopy> copies;
};
// A forward pass; not answered.
struct RankForward {
  struct Sequence {
    int32_t num_tokens = 0;
    int32_t start_position = 0;
    int32_t num_blocks = 0;
    int32_t first_logit_token = 0;
    int32_t draw = -1;  // as ForwardSequence::draw
  };
  std::vector<Sequence> sequences;
  std::vector<TokenId> tokens;  // of all sequences, one after another
  std::vector<BlockId> blocks;  // as the tokens

  // Views of this.
  std::vector<ForwardSequence> Batch() const;
};
using RankMessage = std::variant<RankRoom, RankPool, RankWarmUp, RankCopies, RankForward>;

// What comes of RankRoom or RankPool, if nothing goes wrong.
struct RankAnswer {
  int32_t num_blocks = 0;  // at least 1: that there is room for, or that the cache has
  std::string handle;      // by which rank 0 attaches to a cache that is not in its memory file
};

std::string EncodeRoom();
std::string EncodePool(int32_t num_blocks);
std::string EncodeWarmUp(int32_t max_sequences);
std::string EncodeCopies(std::span<const KvBlockCopy> copies);
std::string EncodeForward(std::span<const ForwardSequence> batch);
// INVALID_ARGUMENT: these bytes are no message.
absl::StatusOr<RankMessage> DecodeRankMessage(std::string_view frame);

std::string EncodeAnswer(const absl::StatusOr<RankAnswer>& answer);
// The rank's own error, too. INVALID_ARGUMENT: these bytes are no answer.
absl::StatusOr<RankAnswer> DecodeRankAnswer(std::string_view frame);

}  // namespace baton
