// Copy plans between any two layouts. A plan names each byte that both sides hold exactly once,
// from and to places inside its blocks; layouts whose sizes make no sense are refused.
#include <fuzzer/FuzzedDataProvider.h>

#include <algorithm>
#include <cstdint>
#include <utility>
#include <vector>

#include "common/check.h"
#include "kvtransfer/core/copy_plan.h"

namespace baton {
namespace {

// A small number, or any.
int32_t Number(FuzzedDataProvider& input, int32_t low, int32_t high) {
  return input.ConsumeBool() ? input.ConsumeIntegralInRange<int32_t>(low, high)
                             : input.ConsumeIntegral<int32_t>();
}

KvShard Shard(FuzzedDataProvider& input) {
  KvShard shard;
  shard.layout.num_layers = Number(input, 1, 3);
  shard.layout.num_kv_heads = Number(input, 1, 4);
  shard.layout.head_dim = Number(input, 1, 8);
  shard.layout.block_size = Number(input, 1, 9);
  shard.layout.dtype = input.PickValueInArray({KvDtype::kBf16, KvDtype::kF32, KvDtype::kInt8});
  shard.first_layer = Number(input, 0, 3);
  shard.first_head = Number(input, 0, 4);
  return shard;
}

// What two shards of [first, first + count) have in common.
int64_t Common(int32_t first_a, int32_t count_a, int32_t first_b, int32_t count_b) {
  const int64_t begin = std::max(first_a, first_b);
  const int64_t end = std::min(int64_t{first_a} + count_a, int64_t{first_b} + count_b);
  return std::max<int64_t>(0, end - begin);
}

int64_t CommonRows(const KvShard& a, const KvShard& b) {
  return Common(a.first_layer, a.layout.num_layers, b.first_layer, b.layout.num_layers) * 2 *
         Common(a.first_head, a.layout.num_kv_heads, b.first_head, b.layout.num_kv_heads);
}

struct Place {
  int32_t layer, block;
  int64_t begin, end;
  auto operator<=>(const Place&) const = default;
};

void CheckPlaces(std::vector<Place> places, const KvShard& shard, TokenRange tokens) {
  std::sort(places.begin(), places.end());
  const int32_t end_token = tokens.first_token + tokens.num_tokens;
  for (size_t i = 0; i < places.size(); ++i) {
    const Place& at = places[i];
    BATON_CHECK(at.layer >= 0 && at.layer < shard.layout.num_layers) << at.layer;
    BATON_CHECK(at.block >= tokens.first_token / shard.layout.block_size &&
                at.block < BlocksForTokens(end_token, shard.layout.block_size))
        << at.block;
    BATON_CHECK(at.begin >= 0 && at.begin < at.end && at.end <= shard.layout.BlockBytes())
        << at.begin << ' ' << at.end << ' ' << shard.layout.BlockBytes();
    if (i == 0 || places[i - 1].layer != at.layer || places[i - 1].block != at.block) continue;
    BATON_CHECK(places[i - 1].end <= at.begin) << "a byte is named twice";
  }
}

void CheckPlan(const std::vector<CopySegment>& plan, const KvShard& source, const KvShard& target,
               TokenRange tokens) {
  std::vector<Place> from, to;
  int64_t bytes = 0;
  for (const CopySegment& s : plan) {
    bytes += s.length_bytes;
    from.push_back(
        {s.source_layer, s.source_block, s.source_offset, s.source_offset + s.length_bytes});
    to.push_back(
        {s.target_layer, s.target_block, s.target_offset, s.target_offset + s.length_bytes});
  }
  const int64_t row_bytes = source.layout.RowBytes();
  const int64_t expected = CommonRows(source, target) * tokens.num_tokens * row_bytes;
  BATON_CHECK(bytes == expected) << bytes << " of " << expected;
  CheckPlaces(std::move(from), source, tokens);
  CheckPlaces(std::move(to), target, tokens);
}

}  // namespace
}  // namespace baton

extern "C" int LLVMFuzzerTestOneInput(const uint8_t* data, size_t size) {
  using namespace baton;  // NOLINT
  FuzzedDataProvider input(data, size);
  const KvShard source = Shard(input);
  KvShard target = Shard(input);
  if (input.ConsumeBool()) {  // else most pairs differ in these and are refused
    target.layout.head_dim = source.layout.head_dim;
    target.layout.dtype = source.layout.dtype;
  }
  const TokenRange tokens{Number(input, 0, 20), Number(input, 0, 20)};
  // A plan is as long as what it covers: keep that to what a run has time for.
  constexpr int64_t kMostRows = 4096;
  const int64_t rows = CommonRows(source, target);
  if (tokens.num_tokens > 0 && rows > kMostRows / std::min<int64_t>(tokens.num_tokens, kMostRows)) {
    return 0;
  }
  const auto plan = PlanCopy(source, target, tokens);
  if (plan.ok()) CheckPlan(*plan, source, target, tokens);
  return 0;
}
