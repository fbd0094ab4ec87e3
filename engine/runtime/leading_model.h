// The model of a tensor-parallel group as its rank 0 sees it: whatever is done with it, the other
// ranks are told to do at the same time.
#pragma once

#include <functional>
#include <memory>
#include <string_view>
#include <vector>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "engine/kv/kv_pool.h"
#include "engine/model/model.h"
#include "engine/parallel/rank_channel.h"
#include "engine/runtime/rank_message.h"

namespace baton {

// What connects rank 0 with one other rank, and that one with rank 0. The descriptors are taken
// over by who uses the link.
struct RankLink {
  int channel_fd = -1;  // of a stream socket pair
  int kv_fd = -1;       // a memory file, empty at first, that holds the rank's KV; not of a device
};

// See Model. After an error of a rank the group is of no further use; one that has gone is
// UNAVAILABLE.
class LeadingModel final : public Model {
 public:
  // `links`: of ranks 1, 2 …
  LeadingModel(std::unique_ptr<Model> model, const std::vector<RankLink>& links);
  ~LeadingModel() override;

  const ModelInfo& info() const override { return model_->info(); }
  KvLayout kv_layout() const override { return model_->kv_layout(); }
  absl::Status Forward(std::span<const ForwardSequence> batch, const KvRegion& kv,
                       const LayerDoneFn& layer_done, Logits* logits) override;
  absl::StatusOr<int32_t> WarmUp(int32_t max_sequences, const KvRegion& kv) override;
  absl::Status CopyBlocks(std::span<const KvBlockCopy> copies, const KvRegion& kv) override;
  // Of this rank; the others ask about themselves, and end.
  absl::Status Health() override { return model_->Health(); }

  // For how many KV blocks every other rank has room.
  absl::StatusOr<int32_t> CountRoom();
  // Attaches to the cache that a rank, counted from 1, has made; `handle` as in RankAnswer.
  using AttachFn =
      std::function<absl::StatusOr<std::unique_ptr<KvPool>>(int32_t rank, std::string_view handle)>;
  // Has every other rank make a cache of `num_blocks`, and attaches to them, in order. Once.
  absl::StatusOr<std::vector<std::unique_ptr<KvPool>>> CreatePools(int32_t num_blocks,
                                                                   const AttachFn& attach);

 private:
  absl::Status Tell(std::string_view frame);
  // Of the rank behind channels_[index]; an error names it.
  absl::StatusOr<RankAnswer> ReceiveAnswer(size_t index);

  const std::unique_ptr<Model> model_;  // this rank's part
  std::vector<RankChannel> channels_;   // of ranks 1, 2 …
  std::vector<int> kv_fds_;             // as channels_
};

}  // namespace baton
