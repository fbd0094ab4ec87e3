#include "engine/model/step_inputs.h"

#include <algorithm>

#include "absl/strings/str_cat.h"
#include "common/check.h"

namespace baton {
namespace {

absl::Status CheckSequence(const ForwardSequence& sequence, const KvRegion& kv,
                           const ModelConfig& config) {
  const auto num_tokens = static_cast<int64_t>(sequence.tokens.size());
  const int64_t end = sequence.start_position + num_tokens;
  if (num_tokens == 0) return absl::InvalidArgumentError("no tokens");
  if (sequence.start_position < 0 || end > config.max_positions) {
    return absl::InvalidArgumentError(absl::StrCat("positions ", sequence.start_position, " to ",
                                                   end, "; the model has ", config.max_positions));
  }
  if (sequence.first_logit_token < 0 || sequence.first_logit_token > num_tokens) {
    return absl::InvalidArgumentError(absl::StrCat(
        "first_logit_token is ", sequence.first_logit_token, " of ", num_tokens, " tokens"));
  }
  const int32_t blocks = BlocksForTokens(static_cast<int32_t>(end), kv.layout.block_size);
  if (static_cast<int64_t>(sequence.block_table.size()) < blocks) {
    return absl::InvalidArgumentError(absl::StrCat("block table has ", sequence.block_table.size(),
                                                   " blocks; ", end, " tokens need ", blocks));
  }
  for (const BlockId block : sequence.block_table.first(static_cast<size_t>(blocks))) {
    if (block.value() < 0 || block.value() >= kv.num_blocks) {
      return absl::InvalidArgumentError(
          absl::StrCat("block ", block.value(), " of a pool of ", kv.num_blocks));
    }
  }
  if (sequence.draw >= 0 && num_tokens != 1) {
    return absl::InvalidArgumentError(absl::StrCat(num_tokens, " tokens of one draw"));
  }
  for (const TokenId token : sequence.tokens) {
    if (token < 0 || token >= config.vocab_size) {
      return absl::InvalidArgumentError(
          absl::StrCat("token ", token, "; the vocabulary has ", config.vocab_size));
    }
  }
  return absl::OkStatus();
}

}  // namespace

void StepInputs::Clear() {
  tokens.clear();
  draws.clear();
  positions.clear();
  slots.clear();
  sequences.clear();
  logit_rows.clear();
}

void StepInputs::AddSequence(const ForwardSequence& sequence, int32_t block_size) {
  const int32_t row_begin = rows();
  const auto num_rows = static_cast<int32_t>(sequence.tokens.size());
  sequences.push_back({.row_begin = row_begin,
                       .num_rows = num_rows,
                       .start_position = sequence.start_position,
                       .block_table = sequence.block_table});
  for (int32_t i = 0; i < num_rows; ++i) {
    const int32_t position = sequence.start_position + i;
    tokens.push_back(sequence.tokens[static_cast<size_t>(i)]);
    draws.push_back(sequence.draw);
    positions.push_back(position);
    slots.push_back({.block = sequence.block_table[static_cast<size_t>(position / block_size)],
                     .offset = position % block_size});
    if (i >= sequence.first_logit_token) logit_rows.push_back(row_begin + i);
  }
}

bool StepInputs::HasDraws() const {
  return std::ranges::any_of(draws, [](int32_t draw) { return draw >= 0; });
}

absl::Status StepInputs::Fill(std::span<const ForwardSequence> batch, const KvRegion& kv,
                              const ModelConfig& config) {
  Clear();
  for (size_t i = 0; i < batch.size(); ++i) {
    if (const absl::Status status = CheckSequence(batch[i], kv, config); !status.ok()) {
      return absl::InvalidArgumentError(
          absl::StrCat("forward: sequence ", i, " of ", batch.size(), ": ", status.message()));
    }
    AddSequence(batch[i], kv.layout.block_size);
  }
  return absl::OkStatus();
}

void StepInputs::PlanForThreads(const ModelConfig& config, int32_t block_size,
                                int32_t num_threads) {
  OrderForAttention(sequences);
  PlanAttention(sequences,
                {.num_heads = config.num_heads,
                 .num_kv_heads = config.num_kv_heads,
                 .block_size = block_size,
                 .num_threads = num_threads},
                &attention);
}

void StepInputs::Reserve(int32_t max_rows, int32_t max_sequences) {
  const auto rows = static_cast<size_t>(max_rows);
  tokens.reserve(rows);
  draws.reserve(rows);
  positions.reserve(rows);
  slots.reserve(rows);
  logit_rows.reserve(rows);
  sequences.reserve(static_cast<size_t>(max_sequences));
}

}  // namespace baton
