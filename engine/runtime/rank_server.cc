#include "engine/runtime/rank_server.h"

#include <unistd.h>

#include <memory>
#include <utility>

#include "common/check.h"
#include "common/strings.h"
#include "engine/kv/kv_cache.h"
#include "engine/parallel/rank_channel.h"
#include "engine/runtime/rank_message.h"

namespace baton {
namespace {

class RankServer {
 public:
  RankServer(std::unique_ptr<Model> model, RankChannel* channel, int kv_fd)
      : model_(std::move(model)), channel_(*channel), kv_fd_(kv_fd) {}
  ~RankServer() { close(kv_fd_); }

  absl::Status Serve() {
    for (;;) {
      const absl::StatusOr<std::string> frame = channel_.Receive();
      if (absl::IsUnavailable(frame.status())) return absl::OkStatus();  // rank 0 has gone
      RETURN_IF_ERROR(frame.status());
      ASSIGN_OR_RETURN(const RankMessage message, DecodeRankMessage(*frame));
      RETURN_IF_ERROR(std::visit([this](const auto& what) { return Do(what); }, message));
    }
  }

 private:
  absl::Status Do(const RankPool& pool) {
    if (kv_ != nullptr) return absl::FailedPreconditionError("there is a KV cache already");
    auto made = KvCache::CreateShared(model_->kv_layout(), pool.num_blocks, kv_fd_);
    RETURN_IF_ERROR(channel_.Send(View(made.status().message())));
    RETURN_IF_ERROR(made.status());
    kv_ = *std::move(made);
    return absl::OkStatus();
  }

  absl::Status Do(const RankCopies& copies) {
    if (kv_ == nullptr) return NoCache();
    return model_->CopyBlocks(copies.copies, kv_->region());
  }

  absl::Status Do(const RankForward& forward) {
    if (kv_ == nullptr) return NoCache();
    return model_->Forward(forward.Batch(), kv_->region(), nullptr, &logits_);
  }

  static absl::Status NoCache() {
    return absl::FailedPreconditionError("there is no KV cache yet");
  }

  const std::unique_ptr<Model> model_;
  RankChannel& channel_;
  const int kv_fd_;
  std::unique_ptr<KvCache> kv_;
  Logits logits_;
};

}  // namespace

absl::Status ServeRank(const ModelOptions& options, const RankLink& link) {
  RankChannel channel(link.channel_fd);
  ASSIGN_OR_RETURN(std::unique_ptr<Model> model, Model::Load(options, nullptr));
  return RankServer(std::move(model), &channel, link.kv_fd).Serve();
}

}  // namespace baton
