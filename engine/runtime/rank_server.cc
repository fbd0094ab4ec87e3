#include "engine/runtime/rank_server.h"

#include <unistd.h>

#include <memory>
#include <utility>
#include <vector>

#include "common/check.h"
#include "engine/kv/kv_cache.h"
#include "engine/runtime/rank_message.h"

namespace baton {
namespace {

// As often as rank 0 asks whether its ranks live.
constexpr absl::Duration kHealthPeriod = absl::Milliseconds(200);

// Never freed, and never lost.
void LeaveToTheProcess(std::unique_ptr<KvPool> pool) {
  static auto* const kept = new std::vector<std::unique_ptr<KvPool>>;
  kept->push_back(std::move(pool));
}

class Rank {
 public:
  Rank(RankParts parts, RankChannel* channel) : parts_(std::move(parts)), channel_(*channel) {}

  absl::Status Serve() {
    const absl::Status status = ServeAll();
    // Rank 0 may be in the middle of a copy from or to it, until it hears of the error.
    if (!status.ok()) LeaveToTheProcess(std::move(pool_));
    return status;
  }

 private:
  absl::Status ServeAll() {
    for (;;) {
      while (!channel_.Wait(kHealthPeriod)) RETURN_IF_ERROR(parts_.model->Health());
      const absl::StatusOr<std::string> frame = channel_.Receive();
      if (absl::IsUnavailable(frame.status())) return absl::OkStatus();  // rank 0 has gone
      RETURN_IF_ERROR(frame.status());
      ASSIGN_OR_RETURN(const RankMessage message, DecodeRankMessage(*frame));
      RETURN_IF_ERROR(std::visit([this](const auto& what) { return Do(what); }, message));
    }
  }

  absl::Status Do(const RankRoom&) {
    return Answer([this]() -> absl::StatusOr<RankAnswer> {
      if (!parts_.count_room) {
        return absl::FailedPreconditionError("no bound on KV blocks but what they are asked for");
      }
      ASSIGN_OR_RETURN(const int32_t num_blocks, parts_.count_room());
      return RankAnswer{.num_blocks = num_blocks};
    }());
  }

  absl::Status Do(const RankPool& pool) {
    if (pool_ != nullptr) return absl::FailedPreconditionError("there is a KV cache already");
    return Answer([&]() -> absl::StatusOr<RankAnswer> {
      ASSIGN_OR_RETURN(RankParts::Pool made, parts_.make_pool(pool.num_blocks));
      pool_ = std::move(made.pool);
      return RankAnswer{.num_blocks = pool.num_blocks, .handle = std::move(made.handle)};
    }());
  }

  absl::Status Do(const RankWarmUp& warm_up) {
    if (pool_ == nullptr) return NoCache();
    return parts_.model->WarmUp(warm_up.max_sequences, pool_->region()).status();
  }

  absl::Status Do(const RankCopies& copies) {
    if (pool_ == nullptr) return NoCache();
    return parts_.model->CopyBlocks(copies.copies, pool_->region());
  }

  absl::Status Do(const RankForward& forward) {
    if (pool_ == nullptr) return NoCache();
    return parts_.model->Forward(forward.Batch(), pool_->region(), nullptr, &logits_);
  }

  // Rank 0 is told of an error before it is this rank's end.
  absl::Status Answer(const absl::StatusOr<RankAnswer>& answer) {
    RETURN_IF_ERROR(channel_.Send(EncodeAnswer(answer)));
    return answer.status();
  }
  static absl::Status NoCache() {
    return absl::FailedPreconditionError("there is no KV cache yet");
  }

  const RankParts parts_;
  RankChannel& channel_;
  std::unique_ptr<KvPool> pool_;
  Logits logits_;
};

}  // namespace

absl::Status ServeRankOf(RankParts parts, RankChannel* channel) {
  return Rank(std::move(parts), channel).Serve();
}

absl::Status ServeRank(const EngineOptions& options, const RankLink& link) {
  RankChannel channel(link.channel_fd);
  RankParts parts;
  ASSIGN_OR_RETURN(parts.model, Model::Load(options.model, nullptr));
  parts.make_pool = [layout = parts.model->kv_layout(),
                     fd = link.kv_fd](int32_t num_blocks) -> absl::StatusOr<RankParts::Pool> {
    auto made = KvCache::CreateShared(layout, num_blocks, fd);
    close(fd);  // it is mapped, or of no use
    RETURN_IF_ERROR(made.status());
    return RankParts::Pool{.pool = *std::move(made)};
  };
  return ServeRankOf(std::move(parts), &channel);
}

}  // namespace baton
