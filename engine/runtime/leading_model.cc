#include "engine/runtime/leading_model.h"

#include <unistd.h>

#include <utility>

#include "absl/strings/str_cat.h"
#include "common/check.h"
#include "engine/runtime/rank_message.h"

namespace baton {

LeadingModel::LeadingModel(std::unique_ptr<Model> model, const std::vector<RankLink>& links)
    : model_(std::move(model)) {
  for (const RankLink& link : links) {
    channels_.emplace_back(link.channel_fd);
    kv_fds_.push_back(link.kv_fd);
  }
}

LeadingModel::~LeadingModel() {
  for (const int fd : kv_fds_) close(fd);
}

absl::Status LeadingModel::Tell(std::string_view frame) {
  for (RankChannel& channel : channels_) RETURN_IF_ERROR(channel.Send(frame));
  return absl::OkStatus();
}

absl::Status LeadingModel::Forward(std::span<const ForwardSequence> batch, const KvRegion& kv,
                                   const LayerDoneFn& layer_done, Logits* logits) {
  RETURN_IF_ERROR(Tell(EncodeForward(batch)));
  return model_->Forward(batch, kv, layer_done, logits);
}

absl::Status LeadingModel::CopyBlocks(std::span<const KvBlockCopy> copies, const KvRegion& kv) {
  RETURN_IF_ERROR(Tell(EncodeCopies(copies)));
  return model_->CopyBlocks(copies, kv);
}

absl::StatusOr<std::vector<std::unique_ptr<KvCache>>> LeadingModel::CreatePools(
    int32_t num_blocks) {
  RETURN_IF_ERROR(Tell(EncodePool(num_blocks)));
  std::vector<std::unique_ptr<KvCache>> pools;
  for (size_t i = 0; i < channels_.size(); ++i) {
    ASSIGN_OR_RETURN(const std::string error, channels_[i].Receive());
    if (!error.empty()) {
      return absl::ResourceExhaustedError(absl::StrCat("rank ", i + 1, ": ", error));
    }
    ASSIGN_OR_RETURN(std::unique_ptr<KvCache> pool,
                     KvCache::Attach(model_->kv_layout(), num_blocks, kv_fds_[i]));
    pools.push_back(std::move(pool));
  }
  return pools;
}

}  // namespace baton
