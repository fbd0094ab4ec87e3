#include "bench/model_shape.h"

#include <algorithm>
#include <cstring>

#include "common/check.h"

namespace baton {
namespace {

std::vector<TokenId> MakeTokens(int32_t count, int32_t vocab_size) {
  std::vector<TokenId> tokens(static_cast<size_t>(count));
  for (size_t i = 0; i < tokens.size(); ++i) {
    tokens[i] = static_cast<TokenId>(i * 7919 % static_cast<size_t>(vocab_size));
  }
  return tokens;
}

}  // namespace

double Seconds(clockid_t clock) {
  timespec time{};
  clock_gettime(clock, &time);
  return static_cast<double>(time.tv_sec) + 1e-9 * static_cast<double>(time.tv_nsec);
}

absl::StatusOr<std::unique_ptr<PreparedShape>> PreparedShape::Create(Model* model,
                                                                     const Shape& shape) {
  std::unique_ptr<PreparedShape> prepared(new PreparedShape(model));
  RETURN_IF_ERROR(prepared->Prepare(shape));
  return prepared;
}

absl::StatusOr<Timing> PreparedShape::Run() {
  const double wall = Seconds(CLOCK_MONOTONIC);
  const double cpu = Seconds(CLOCK_PROCESS_CPUTIME_ID);
  RETURN_IF_ERROR(model_.Forward(batch_, cache_->region(), nullptr, &logits_));
  return Timing{.wall_seconds = Seconds(CLOCK_MONOTONIC) - wall,
                .cpu_seconds = Seconds(CLOCK_PROCESS_CPUTIME_ID) - cpu};
}
void PreparedShape::SetTokens(std::span<const TokenId> tokens) {
  std::copy(tokens.begin(), tokens.end(), tokens_.begin());
}

absl::Status PreparedShape::Prepare(const Shape& shape) {
  const int32_t vocab = model_.info().vocab_size;
  tokens_ = MakeTokens(shape.tokens, vocab);
  const KvLayout layout = model_.kv_layout();
  const int32_t blocks = BlocksForTokens(shape.context + shape.tokens, layout.block_size);
  ASSIGN_OR_RETURN(cache_, KvCache::Create(layout, blocks * shape.sequences));
  tables_.resize(static_cast<size_t>(shape.sequences));
  for (int32_t s = 0; s < shape.sequences; ++s) {
    // One after the other, as a new pool gives them out.
    auto& table = tables_[static_cast<size_t>(s)];
    for (int32_t b = 0; b < blocks; ++b) {
      table.emplace_back(b < shape.shared / layout.block_size ? b : s * blocks + b);
    }
    batch_.push_back({.tokens = tokens_,
                      .start_position = shape.context,
                      .block_table = table,
                      .first_logit_token = shape.all_logits ? 0 : shape.tokens - 1});
  }
  if (shape.context == 0) return absl::OkStatus();
  const std::vector<TokenId> context = MakeTokens(shape.context, vocab);
  const ForwardSequence first{
      .tokens = context, .block_table = tables_[0], .first_logit_token = shape.context};
  RETURN_IF_ERROR(model_.Forward({&first, 1}, cache_->region(), nullptr, &logits_));
  for (size_t s = 1; s < tables_.size(); ++s) CopyBlocks(tables_[0], tables_[s]);
  return absl::OkStatus();
}

void PreparedShape::CopyBlocks(const std::vector<BlockId>& from, const std::vector<BlockId>& to) {
  const KvRegion& region = cache_->region();
  const auto bytes = static_cast<size_t>(region.layout.BlockBytes());
  for (int32_t layer = 0; layer < region.layout.num_layers; ++layer) {
    for (size_t b = 0; b < from.size(); ++b) {
      std::memcpy(region.Block(layer, to[b]), region.Block(layer, from[b]), bytes);
    }
  }
}

}  // namespace baton
