#include "engine/runtime/leading_model.h"

#include <unistd.h>

#include <algorithm>
#include <limits>
#include <utility>

#include "absl/strings/str_cat.h"
#include "common/check.h"

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

absl::StatusOr<int32_t> LeadingModel::WarmUp(int32_t max_sequences, const KvRegion& kv) {
  RETURN_IF_ERROR(Tell(EncodeWarmUp(max_sequences)));
  return model_->WarmUp(max_sequences, kv);
}

absl::Status LeadingModel::CopyBlocks(std::span<const KvBlockCopy> copies, const KvRegion& kv) {
  RETURN_IF_ERROR(Tell(EncodeCopies(copies)));
  return model_->CopyBlocks(copies, kv);
}

absl::StatusOr<RankAnswer> LeadingModel::ReceiveAnswer(size_t index) {
  const absl::StatusOr<std::string> frame = channels_[index].Receive();
  absl::StatusOr<RankAnswer> answer =
      frame.ok() ? DecodeRankAnswer(*frame) : absl::StatusOr<RankAnswer>(frame.status());
  if (answer.ok()) return answer;
  return absl::Status(answer.status().code(),
                      absl::StrCat("rank ", index + 1, ": ", answer.status().message()));
}

absl::StatusOr<int32_t> LeadingModel::CountRoom() {
  RETURN_IF_ERROR(Tell(EncodeRoom()));
  int32_t least = std::numeric_limits<int32_t>::max();
  for (size_t i = 0; i < channels_.size(); ++i) {
    ASSIGN_OR_RETURN(const RankAnswer answer, ReceiveAnswer(i));
    least = std::min(least, answer.num_blocks);
  }
  return least;
}

absl::StatusOr<std::vector<std::unique_ptr<KvPool>>> LeadingModel::CreatePools(
    int32_t num_blocks, const AttachFn& attach) {
  RETURN_IF_ERROR(Tell(EncodePool(num_blocks)));
  std::vector<std::unique_ptr<KvPool>> pools;
  for (size_t i = 0; i < channels_.size(); ++i) {
    ASSIGN_OR_RETURN(const RankAnswer answer, ReceiveAnswer(i));
    if (answer.num_blocks != num_blocks) {
      return absl::InternalError(absl::StrCat("rank ", i + 1, " made ", answer.num_blocks,
                                              " KV blocks, not ", num_blocks));
    }
    ASSIGN_OR_RETURN(std::unique_ptr<KvPool> pool,
                     attach(static_cast<int32_t>(i) + 1, answer.handle));
    pools.push_back(std::move(pool));
  }
  return pools;
}

}  // namespace baton
