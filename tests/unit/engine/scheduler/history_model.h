// A model for tests whose logits are a hash of the whole token history as it reads it back from the
// KV blocks that it wrote: a wrong block table, a missed copy on write, a stale prefix or a block
// given away too early changes the tokens that follow.
#pragma once

#include <span>
#include <vector>

#include "common/request.h"
#include "engine/model/model.h"
#include "engine/scheduler/scheduler.h"

namespace baton {

inline constexpr int32_t kHistoryVocab = 96;
inline constexpr TokenId kHistoryEos = 7;

// The hash after a token at `position`; histories start from 0.
uint64_t ExtendHistory(uint64_t history, TokenId token, int32_t position);
// [kHistoryVocab] logits after a history.
void HistoryLogits(uint64_t history, std::span<float> logits);

class HistoryModel final : public Model {
 public:
  explicit HistoryModel(int32_t block_size, int32_t max_model_len);

  const ModelInfo& info() const override { return info_; }
  KvLayout kv_layout() const override { return layout_; }
  absl::Status Forward(std::span<const ForwardSequence> batch, const KvRegion& kv,
                       const LayerDoneFn& layer_done, Logits* logits) override;

  int64_t forward_tokens = 0;  // computed since it was made
  bool next_row_is_nan = false;

 private:
  ModelInfo info_;
  KvLayout layout_;
};

// The memory of a KV pool, full of garbage at first.
class TestKv {
 public:
  TestKv(const KvLayout& layout, int32_t num_blocks);
  const KvRegion& region() const { return region_; }
  void Scribble(BlockId block);  // what a late or broken peer writes
  bool IsScribbled(BlockId block) const;

 private:
  KvRegion region_;
  std::vector<std::vector<std::byte>> layers_;
};

// What `history_model` gives for one sample on its own: no blocks, no batch, no scheduler.
struct ExpectedSample {
  std::vector<SampledToken> tokens;  // those that are still to come, for a resumed spec
  SampleFinish finish;
};
ExpectedSample RunAlone(const GenerationSpec& spec, int32_t sample,
                        const SchedulerOptions& options);

}  // namespace baton
