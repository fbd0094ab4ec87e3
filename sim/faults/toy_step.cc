#include "sim/faults/toy_step.h"

#include <utility>

#include "absl/strings/str_cat.h"
#include "sim/faults/history.h"

namespace baton::sim {

namespace {
constexpr uint64_t kNobodysKv = 0xdead;
}

std::vector<BlockId> ToyStep::LastBlocks(const StepPlan& plan) {
  std::vector<BlockId> blocks;
  for (const StepPlan::Row& row : plan.rows) {
    const auto last = static_cast<size_t>(row.start_position) + row.tokens.size() - 1;
    blocks.push_back(row.block_table[last / kToyBlockSize]);
  }
  return blocks;
}

ToyStep::ToyStep(Scheduler& scheduler, const StepPlan& plan, ToyMemory& memory, int32_t layers,
                 std::vector<BlockId> last_blocks)
    : scheduler_(scheduler),
      plan_(plan),
      memory_(memory),
      layers_(layers),
      shape_(plan.Shape()),
      last_blocks_(std::move(last_blocks)) {
  for (const KvBlockCopy& copy : plan.copies) {
    for (int32_t layer = 0; layer < layers; ++layer) memory_.Copy(layer, copy.from, copy.to);
  }
  for (const StepPlan::Row& row : plan.rows) {
    const auto end = static_cast<size_t>(row.start_position) + row.tokens.size();
    std::span<const TokenId> tokens;
    if (!row.block_table.empty()) tokens = scheduler.Tokens(row.sequence, row.branch);
    std::vector<uint64_t>& prefixes = prefixes_.emplace_back();
    std::vector<SampledToken>& draws = sampled_.emplace_back();
    if (tokens.size() < end) {  // the token before has ended it, or it was aborted
      draws.resize(static_cast<size_t>(row.num_samples));
      continue;
    }
    tokens = tokens.first(end);
    uint64_t prefix = kToyNoTokens;
    for (const TokenId token : tokens) prefixes.push_back(prefix = ToyPrefix(prefix, token));
    // Drawn now: a sequence that is aborted during the step is forgotten at its end.
    for (size_t draw = 0; draw < static_cast<size_t>(row.num_samples); ++draw) {
      draws.push_back({.token = ToyNextToken(scheduler.Spec(row.sequence), tokens, draw)});
    }
  }
}

void ToyStep::RunLayer() {
  for (size_t i = 0; i < plan_.rows.size(); ++i) {
    const StepPlan::Row& row = plan_.rows[i];
    if (prefixes_[i].empty()) {
      memory_.At(layer_, last_blocks_[i], row.start_position % kToyBlockSize) = kNobodysKv;
    }
    for (size_t position = 0; position < prefixes_[i].size(); ++position) {
      const uint64_t right = ToyKv(prefixes_[i][position], layer_);
      uint64_t& slot = memory_.At(layer_, row.block_table[position / kToyBlockSize],
                                  static_cast<int32_t>(position % kToyBlockSize));
      if (static_cast<int32_t>(position) >= row.start_position) {
        slot = right;
      } else if (slot != right) {
        throw Violation(absl::StrCat("H4: in layer ", layer_, " position ", position,
                                     " of sequence ", row.sequence.value(),
                                     " holds the KV of other tokens"));
      }
    }
  }
  ++layer_;
}

std::vector<SequenceEvent> ToyStep::Finish() { return scheduler_.Commit(sampled_); }

}  // namespace baton::sim
