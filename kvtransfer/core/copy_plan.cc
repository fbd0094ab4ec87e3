#include "kvtransfer/core/copy_plan.h"

#include <algorithm>

#include "absl/strings/str_cat.h"
#include "common/check.h"

namespace baton {
namespace {

// Whether [first, first + count) is a range of int32_t that is not empty.
bool IsRange(int32_t first, int32_t count) {
  return first >= 0 && count > 0 && first <= INT32_MAX - count;
}

// Whether offsets inside any pool of such blocks can be counted in 64 bits.
bool BlockIsAddressable(const KvLayout& layout) {
  int64_t bytes = int64_t{2} * layout.num_kv_heads;
  return !__builtin_mul_overflow(bytes, layout.block_size, &bytes) &&
         !__builtin_mul_overflow(bytes, layout.RowBytes(), &bytes) && bytes <= INT32_MAX;
}

absl::Status CheckShard(const KvShard& shard) {
  const KvLayout& layout = shard.layout;
  if (!IsRange(shard.first_layer, layout.num_layers) ||
      !IsRange(shard.first_head, layout.num_kv_heads) || layout.head_dim <= 0 ||
      layout.block_size <= 0 || !BlockIsAddressable(layout)) {
    return absl::InvalidArgumentError(
        absl::StrCat("no KV shard: ", layout.ToString(), ", of the model's layers from ",
                     shard.first_layer, " and heads from ", shard.first_head,
                     "; a block of one layer has at most ", INT32_MAX, " bytes"));
  }
  return absl::OkStatus();
}

absl::Status CheckPair(const KvShard& source, const KvShard& target, TokenRange tokens) {
  RETURN_IF_ERROR(CheckShard(source));
  RETURN_IF_ERROR(CheckShard(target));
  if (source.layout.head_dim != target.layout.head_dim ||
      source.layout.dtype != target.layout.dtype) {
    return absl::InvalidArgumentError(absl::StrCat("no copy plan joins ", source.layout.ToString(),
                                                   " and ", target.layout.ToString(),
                                                   ": head_dim and dtype must be equal"));
  }
  if (tokens.first_token < 0 || tokens.num_tokens < 0 ||
      int64_t{tokens.first_token} + tokens.num_tokens > INT32_MAX) {
    return absl::InvalidArgumentError(absl::StrCat("tokens [", tokens.first_token, ", +",
                                                   tokens.num_tokens, ") are out of range"));
  }
  return absl::OkStatus();
}

// Where token `token` of (kv, head of the model) starts in its block: [2, heads, tokens] rows.
int64_t OffsetOf(const KvShard& shard, int kv, int32_t head, int32_t token) {
  const KvLayout& layout = shard.layout;
  const int64_t row =
      (int64_t{kv} * layout.num_kv_heads + head - shard.first_head) * layout.block_size +
      token % layout.block_size;
  return row * layout.RowBytes();
}

void Append(std::vector<CopySegment>& plan, const CopySegment& next) {
  if (!plan.empty()) {
    CopySegment& last = plan.back();
    if (last.source_layer == next.source_layer && last.source_block == next.source_block &&
        last.target_block == next.target_block &&
        last.source_offset + last.length_bytes == next.source_offset &&
        last.target_offset + last.length_bytes == next.target_offset) {
      last.length_bytes += next.length_bytes;
      return;
    }
  }
  plan.push_back(next);
}

}  // namespace

absl::StatusOr<std::vector<CopySegment>> PlanCopy(const KvShard& source, const KvShard& target,
                                                  TokenRange tokens) {
  RETURN_IF_ERROR(CheckPair(source, target, tokens));
  const int32_t first_layer = std::max(source.first_layer, target.first_layer);
  const int32_t end_layer = std::min(source.first_layer + source.layout.num_layers,
                                     target.first_layer + target.layout.num_layers);
  const int32_t first_head = std::max(source.first_head, target.first_head);
  const int32_t end_head = std::min(source.first_head + source.layout.num_kv_heads,
                                    target.first_head + target.layout.num_kv_heads);
  const int64_t row_bytes = source.layout.RowBytes();
  const int32_t end_token = tokens.first_token + tokens.num_tokens;
  std::vector<CopySegment> plan;
  if (first_head >= end_head) return plan;
  for (int32_t layer = first_layer; layer < end_layer; ++layer) {
    for (int32_t token = tokens.first_token; token < end_token;) {
      // The longest run of tokens that stays inside one block on either side.
      const int32_t run =
          std::min({end_token - token, source.layout.block_size - token % source.layout.block_size,
                    target.layout.block_size - token % target.layout.block_size});
      for (int kv = 0; kv < 2; ++kv) {
        for (int32_t head = first_head; head < end_head; ++head) {
          Append(plan, {layer - source.first_layer, token / source.layout.block_size,
                        OffsetOf(source, kv, head, token), layer - target.first_layer,
                        token / target.layout.block_size, OffsetOf(target, kv, head, token),
                        run * row_bytes});
        }
      }
      token += run;
    }
  }
  return plan;
}

std::vector<CopyMove> PlaceCopy(const std::vector<CopySegment>& plan, const KvShard& source,
                                const std::vector<BlockId>& source_blocks, const KvShard& target,
                                const std::vector<BlockId>& target_blocks) {
  std::vector<CopyMove> moves;
  for (const CopySegment& segment : plan) {
    const auto from = static_cast<size_t>(segment.source_block);
    const auto to = static_cast<size_t>(segment.target_block);
    BATON_CHECK(from < source_blocks.size() && to < target_blocks.size()) << from << ' ' << to;
    const CopyMove move{
        segment.source_layer,
        source_blocks[from].value() * source.layout.BlockBytes() + segment.source_offset,
        segment.target_layer,
        target_blocks[to].value() * target.layout.BlockBytes() + segment.target_offset,
        segment.length_bytes};
    CopyMove* last = moves.empty() ? nullptr : &moves.back();
    if (last != nullptr && last->source_layer == move.source_layer &&
        last->source_offset + last->length_bytes == move.source_offset &&
        last->target_offset + last->length_bytes == move.target_offset) {
      last->length_bytes += move.length_bytes;
    } else {
      moves.push_back(move);
    }
  }
  return moves;
}

}  // namespace baton
