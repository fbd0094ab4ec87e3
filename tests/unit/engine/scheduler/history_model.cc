#include "tests/unit/engine/scheduler/history_model.h"

#include <algorithm>
#include <cstring>
#include <limits>
#include <optional>

#include "common/check.h"
#include "common/hash.h"
#include "engine/sampling/sampler.h"
#include "engine/scheduler/finish_rules.h"

namespace baton {

namespace {

constexpr uint8_t kScribble = 0xee;

constexpr int32_t kLayers = 2;
constexpr int32_t kHeadDim = 4;

struct Entry {  // one token's K in one layer: head_dim f32 in size
  int32_t token;
  int32_t position;
  int32_t layer;
  uint32_t check;
};
static_assert(sizeof(Entry) == kHeadDim * sizeof(float));

uint32_t CheckOf(const Entry& entry) {
  return static_cast<uint32_t>(HashCombine(
      HashCombine(static_cast<uint64_t>(entry.token), static_cast<uint64_t>(entry.position)),
      static_cast<uint64_t>(entry.layer)));
}

std::byte* Slot(const KvRegion& kv, const ForwardSequence& row, int32_t layer, int32_t position) {
  const int32_t logical = position / kv.layout.block_size;
  BATON_CHECK(static_cast<size_t>(logical) < row.block_table.size()) << "position " << position;
  const BlockId block = row.block_table[static_cast<size_t>(logical)];
  return kv.Block(layer, block) +
         static_cast<size_t>(position % kv.layout.block_size) * sizeof(Entry);
}

void Write(const KvRegion& kv, const ForwardSequence& row, int32_t layer) {
  for (size_t i = 0; i < row.tokens.size(); ++i) {
    Entry entry{.token = row.tokens[i],
                .position = row.start_position + static_cast<int32_t>(i),
                .layer = layer,
                .check = 0};
    entry.check = CheckOf(entry);
    std::memcpy(Slot(kv, row, layer, entry.position), &entry, sizeof entry);
  }
}

// The token at `position`, or -1 where the layers disagree or hold something else.
TokenId Read(const KvRegion& kv, const ForwardSequence& row, int32_t position) {
  TokenId token = -1;
  for (int32_t layer = 0; layer < kLayers; ++layer) {
    Entry entry;
    std::memcpy(&entry, Slot(kv, row, layer, position), sizeof entry);
    const bool right = entry.position == position && entry.layer == layer &&
                       entry.check == CheckOf(entry) && (layer == 0 || entry.token == token);
    if (!right) return -1;
    token = entry.token;
  }
  return token;
}

}  // namespace

uint64_t ExtendHistory(uint64_t history, TokenId token, int32_t position) {
  return HashCombine(HashCombine(history, static_cast<uint64_t>(token)),
                     static_cast<uint64_t>(position));
}

void HistoryLogits(uint64_t history, std::span<float> logits) {
  for (size_t token = 0; token < logits.size(); ++token) {
    const uint64_t bits = HashCombine(history, token);
    logits[token] = static_cast<float>(bits >> 40) * 0x1p-21f - 4.0f;  // [-4, 4)
  }
}

HistoryModel::HistoryModel(int32_t block_size, int32_t max_model_len) {
  layout_ = KvLayout{.num_layers = kLayers,
                     .num_kv_heads = 1,
                     .head_dim = kHeadDim,
                     .block_size = block_size,
                     .dtype = KvDtype::kF32};
  info_.name = "history";
  info_.num_layers = kLayers;
  info_.num_kv_heads = 1;
  info_.head_dim = kHeadDim;
  info_.vocab_size = kHistoryVocab;
  info_.max_model_len = max_model_len;
  info_.eos_tokens = {kHistoryEos};
}

absl::Status HistoryModel::Forward(std::span<const ForwardSequence> batch, const KvRegion& kv,
                                   const LayerDoneFn& layer_done, Logits* logits) {
  for (int32_t layer = 0; layer < kLayers; ++layer) {
    for (const ForwardSequence& row : batch) Write(kv, row, layer);
    if (layer_done) layer_done(layer);
  }
  logits->vocab_size = kHistoryVocab;
  logits->num_rows = 0;
  for (const ForwardSequence& row : batch) {
    logits->num_rows += static_cast<int32_t>(row.tokens.size()) - row.first_logit_token;
  }
  logits->values.resize(static_cast<size_t>(logits->num_rows) * kHistoryVocab);
  int32_t logits_row = 0;
  for (const ForwardSequence& row : batch) {
    uint64_t history = 0;
    for (int32_t p = 0; p < row.start_position; ++p) {
      history = ExtendHistory(history, Read(kv, row, p), p);
    }
    for (size_t i = 0; i < row.tokens.size(); ++i) {
      const int32_t position = row.start_position + static_cast<int32_t>(i);
      history = ExtendHistory(history, Read(kv, row, position), position);
      ++forward_tokens;
      if (static_cast<int32_t>(i) < row.first_logit_token) continue;
      HistoryLogits(history, logits->MutableRow(logits_row++));
    }
  }
  if (next_row_is_nan && logits_row > 0) {
    logits->MutableRow(0)[3] = std::numeric_limits<float>::quiet_NaN();
  }
  return absl::OkStatus();
}

TestKv::TestKv(const KvLayout& layout, int32_t num_blocks) {
  region_.layout = layout;
  region_.num_blocks = num_blocks;
  for (int32_t layer = 0; layer < layout.num_layers; ++layer) {
    layers_.emplace_back(static_cast<size_t>(layout.BlockBytes() * num_blocks), std::byte{0xcc});
    region_.layer_base.push_back(layers_.back().data());
  }
}

void TestKv::Scribble(BlockId block) {
  for (int32_t layer = 0; layer < region_.layout.num_layers; ++layer) {
    std::memset(region_.Block(layer, block), kScribble,
                static_cast<size_t>(region_.layout.BlockBytes()));
  }
}

bool TestKv::IsScribbled(BlockId block) const {
  for (int32_t layer = 0; layer < region_.layout.num_layers; ++layer) {
    const std::byte* begin = region_.Block(layer, block);
    if (!std::all_of(begin, begin + region_.layout.BlockBytes(),
                     [](std::byte byte) { return byte == std::byte{kScribble}; })) {
      return false;
    }
  }
  return true;
}

ExpectedSample RunAlone(const GenerationSpec& spec, int32_t sample,
                        const SchedulerOptions& options) {
  ExpectedSample expected;
  Sampler sampler(kHistoryVocab);
  std::vector<TokenId> tokens = spec.tokens;
  std::vector<float> logits(kHistoryVocab);
  uint64_t history = 0;
  for (int32_t position = 0;; ++position) {
    history = ExtendHistory(history, tokens[static_cast<size_t>(position)], position);
    if (position + 1 < static_cast<int32_t>(tokens.size())) continue;
    HistoryLogits(history, logits);
    const SampleContext context{.sampling = spec.sampling,
                                .stopping = spec.stopping,
                                .tokens = tokens,
                                .prompt_length = spec.prompt_length,
                                .sample = sample,
                                .eos_tokens = options.eos_tokens};
    absl::StatusOr<DrawnToken> drawn = sampler.Draw(logits, context);
    BATON_CHECK_OK(drawn.status());
    const TokenOutput output{.sample = sample, .index = context.index(), .token = drawn->token};
    tokens.push_back(drawn->token);
    expected.tokens.push_back({drawn->token, drawn->logprob, drawn->top_logprobs});
    const auto finish = FinishOf(spec, options, output, static_cast<int32_t>(tokens.size()));
    if (!finish) continue;
    expected.finish = *finish;
    return expected;
  }
}

}  // namespace baton
