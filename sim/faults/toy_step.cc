#include "sim/faults/toy_step.h"

#include "absl/strings/str_cat.h"
#include "sim/faults/history.h"

namespace baton::sim {

ToyStep::ToyStep(Scheduler& scheduler, const StepPlan& plan, ToyMemory& memory, int32_t layers)
    : scheduler_(scheduler), plan_(plan), memory_(memory), layers_(layers), shape_(plan.Shape()) {
  for (const KvBlockCopy& copy : plan.copies) {
    for (int32_t layer = 0; layer < layers; ++layer) memory_.Copy(layer, copy.from, copy.to);
  }
  for (const StepPlan::Row& row : plan.rows) {
    const auto end = static_cast<size_t>(row.start_position) + row.tokens.size();
    const std::span<const TokenId> tokens = scheduler.Tokens(row.sequence, row.branch).first(end);
    uint64_t prefix = kToyNoTokens;
    std::vector<uint64_t>& prefixes = prefixes_.emplace_back();
    for (const TokenId token : tokens) prefixes.push_back(prefix = ToyPrefix(prefix, token));
    // Drawn now: a sequence that is aborted during the step is forgotten at its end.
    std::vector<SampledToken>& draws = sampled_.emplace_back();
    for (size_t draw = 0; draw < static_cast<size_t>(row.num_samples); ++draw) {
      draws.push_back({.token = ToyNextToken(scheduler.Spec(row.sequence), tokens, draw)});
    }
  }
}

void ToyStep::RunLayer() {
  for (size_t i = 0; i < plan_.rows.size(); ++i) {
    const StepPlan::Row& row = plan_.rows[i];
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
