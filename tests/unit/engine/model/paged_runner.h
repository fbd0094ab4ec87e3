// Runs a model over sequences whose KV lies in randomly scattered blocks.
#pragma once

#include <algorithm>
#include <cstdint>
#include <memory>
#include <numeric>
#include <random>
#include <span>
#include <vector>

#include "common/check.h"
#include "engine/kv/kv_cache.h"
#include "engine/model/model.h"

namespace baton {

class PagedRunner {
 public:
  PagedRunner(Model* model, int32_t num_blocks, uint64_t seed) : model_(*model) {
    auto cache = KvCache::Create(model->kv_layout(), num_blocks);
    BATON_CHECK(cache.ok()) << cache.status().ToString();
    cache_ = *std::move(cache);
    // What an earlier owner left in a block must never show: fill all with large finite numbers.
    for (std::byte* layer : cache_->region().layer_base) {
      const int64_t bytes = num_blocks * cache_->layout().BlockBytes();
      std::fill_n(layer, bytes, std::byte{0x47});
    }
    UseRegion(cache_->region(), seed);
  }
  // In memory of the caller's, that of the model's device for example.
  PagedRunner(Model* model, const KvRegion& region, uint64_t seed) : model_(*model) {
    UseRegion(region, seed);
  }

  struct Sequence {
    std::vector<BlockId> block_table;
    int32_t position = 0;
  };
  // One sequence's part of a step.
  struct Chunk {
    Sequence* sequence = nullptr;
    std::span<const TokenId> tokens;
    int32_t first_logit_token = 0;
  };

  // Forward over all chunks in one step; sequences advance and get blocks as they need them.
  const Logits& Step(const std::vector<Chunk>& chunks, const LayerDoneFn& layer_done = nullptr) {
    std::vector<ForwardSequence> batch;
    for (const Chunk& chunk : chunks) {
      Sequence& sequence = *chunk.sequence;
      const int32_t end = sequence.position + static_cast<int32_t>(chunk.tokens.size());
      const int32_t blocks = BlocksForTokens(end, region_.layout.block_size);
      while (static_cast<int32_t>(sequence.block_table.size()) < blocks) {
        BATON_CHECK(!free_blocks_.empty());
        sequence.block_table.emplace_back(free_blocks_.back());
        free_blocks_.pop_back();
      }
      batch.push_back({.tokens = chunk.tokens,
                       .start_position = sequence.position,
                       .block_table = sequence.block_table,
                       .first_logit_token = chunk.first_logit_token});
      sequence.position = end;
    }
    BATON_CHECK_OK(model_.Forward(batch, region_, layer_done, &logits_));
    return logits_;
  }

  const KvRegion& region() const { return region_; }

 private:
  void UseRegion(const KvRegion& region, uint64_t seed) {
    region_ = region;
    free_blocks_.resize(static_cast<size_t>(region.num_blocks));
    std::iota(free_blocks_.begin(), free_blocks_.end(), 0);
    std::shuffle(free_blocks_.begin(), free_blocks_.end(), std::mt19937_64(seed));
  }

  Model& model_;
  std::unique_ptr<KvCache> cache_;  // null: the caller's memory
  KvRegion region_;
  std::vector<int32_t> free_blocks_;
  Logits logits_;
};

// The index of the largest number; the first of equals.
inline TokenId ArgMax(std::span<const float> row) {
  return static_cast<TokenId>(std::max_element(row.begin(), row.end()) - row.begin());
}

}  // namespace baton
