#include "engine/model/model_shard.h"

#include <algorithm>
#include <vector>

#include "absl/strings/str_cat.h"
#include "absl/strings/str_join.h"

namespace baton {
namespace {

bool SharesHeads(const ModelConfig& config, int32_t size) {
  return config.num_heads % size == 0 &&
         (config.num_kv_heads % size == 0 || size % config.num_kv_heads == 0);
}

// "1, 2, 4"
std::string SizesThatShareHeads(const ModelConfig& config) {
  std::vector<int32_t> sizes;
  for (int32_t size = 1; size <= config.num_heads; ++size) {
    if (SharesHeads(config, size)) sizes.push_back(size);
  }
  return absl::StrJoin(sizes, ", ");
}

}  // namespace

std::string ModelShard::Describe() const {
  if (IsWhole()) return "";
  return absl::StrCat("rank ", rank, " of ", size,
                      split == TensorSplit::kColumns ? " by columns" : " by rows");
}

ShardRange ModelShard::OfKvHeads(int32_t num_kv_heads) const {
  const int32_t copies = KvCopies(num_kv_heads);
  const ModelShard of_first_copies = {.rank = rank / copies, .size = size / copies};
  return of_first_copies.Of(num_kv_heads);
}

absl::Status CheckShard(const ModelConfig& config, const ModelShard& shard) {
  if (shard.size < 1 || shard.rank < 0 || shard.rank >= shard.size) {
    return absl::InvalidArgumentError(
        absl::StrCat("tensor_parallel: rank ", shard.rank, " of ", shard.size));
  }
  if (!SharesHeads(config, shard.size)) {
    return absl::InvalidArgumentError(absl::StrCat(
        "tensor_parallel is ", shard.size, "; the model's ", config.num_heads, " heads and ",
        config.num_kv_heads, " KV heads can be shared by ", SizesThatShareHeads(config)));
  }
  if (shard.split == TensorSplit::kRows && !shard.IsWhole()) {
    // Whole groups of quantized inputs, and of what kernels multiply at once.
    constexpr int32_t kInputs = 32;
    const int32_t heads_inputs = config.QSize() / shard.size;
    if (heads_inputs % kInputs != 0 || config.intermediate_size % (shard.size * kInputs) != 0) {
      return absl::InvalidArgumentError(absl::StrCat(
          "tensor_parallel by rows: each of ", shard.size, " ranks would take ", heads_inputs,
          " inputs of attention's output and a part of ", config.intermediate_size,
          " of the feed-forward's; both must be multiples of ", kInputs));
    }
  }
  const int32_t least = std::min({config.hidden_size, config.intermediate_size, config.vocab_size});
  if (least < shard.size) {
    return absl::InvalidArgumentError(absl::StrCat(
        "tensor_parallel is ", shard.size, "; the model's smallest matrix has ", least, " rows"));
  }
  return absl::OkStatus();
}

ModelConfig HeadsOf(const ModelConfig& config, const ModelShard& shard) {
  ModelConfig heads = config;
  heads.num_heads /= shard.size;
  heads.num_kv_heads = shard.OfKvHeads(config.num_kv_heads).count();
  return heads;
}

}  // namespace baton
