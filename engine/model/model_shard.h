// Which part of a model one process of a tensor-parallel group holds and computes.
#pragma once

#include <algorithm>
#include <cstdint>
#include <string>

#include "absl/status/status.h"
#include "engine/model/model_config.h"

namespace baton {

// How the output and down projections are split; the others, the embedding and the logits always
// are by their outputs.
enum class TensorSplit {
  // By their outputs too: every rank needs the whole input. Each number is summed by one rank as it
  // would be alone, so the model's answers are those of one process, bit for bit.
  kColumns,
  // By their inputs, as Megatron-LM does: every rank makes a part of each sum. Half as many
  // operations on the wire and less to move, but sums depend on the size of the group.
  kRows,
};

struct ShardRange {
  int32_t begin = 0;
  int32_t end = 0;
  int32_t count() const { return end - begin; }
};

struct ModelShard {
  int32_t rank = 0;
  int32_t size = 1;  // 1: all of the model
  TensorSplit split = TensorSplit::kColumns;

  bool IsWhole() const { return size == 1; }
  // This rank's part of `n` things in order; the parts of all ranks are as even as can be.
  ShardRange Of(int32_t n) const { return Of(n, rank); }
  ShardRange Of(int32_t n, int32_t of_rank) const {
    return {static_cast<int32_t>(int64_t{n} * of_rank / size),
            static_cast<int32_t>(int64_t{n} * (of_rank + 1) / size)};
  }
  int32_t Widest(int32_t n) const { return (n + size - 1) / size; }
  // How many ranks, neighbours, compute the same KV head: several where there are more of them than
  // heads. REQUIRES: CheckShard.
  int32_t KvCopies(int32_t num_kv_heads) const { return std::max(1, size / num_kv_heads); }
  // The KV heads that this rank's query heads attend to.
  ShardRange OfKvHeads(int32_t num_kv_heads) const;
  // "rank 1 of 2 by columns"; empty for all of a model.
  std::string Describe() const;
};

// INVALID_ARGUMENT: the heads of `config` cannot be shared out evenly, or its KV heads neither be
// shared out nor copied evenly, or there are fewer of anything else than ranks.
absl::Status CheckShard(const ModelConfig& config, const ModelShard& shard);
// `config` with the heads that the shard computes.
ModelConfig HeadsOf(const ModelConfig& config, const ModelShard& shard);

}  // namespace baton
