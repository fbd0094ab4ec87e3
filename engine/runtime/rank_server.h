// What the ranks of a tensor-parallel group but the first do: what rank 0 tells them.
#pragma once

#include <cstdint>
#include <functional>
#include <memory>
#include <string>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "engine/kv/kv_pool.h"
#include "engine/model/model.h"
#include "engine/parallel/rank_channel.h"
#include "engine/runtime/engine.h"
#include "engine/runtime/leading_model.h"

namespace baton {

// What a rank computes with.
struct RankParts {
  // A rank's KV cache, and how rank 0 attaches to it; see RankAnswer.
  struct Pool {
    std::unique_ptr<KvPool> pool;
    std::string handle;
  };
  std::unique_ptr<Model> model;
  std::function<absl::StatusOr<Pool>(int32_t num_blocks)> make_pool;  // called once
  // How many blocks it may be asked for. Null: this rank does not know.
  std::function<absl::StatusOr<int32_t>()> count_room;
};

// Serves until rank 0 goes, which is OK. An error means that the group is broken, or that this
// rank's device is. The calling thread computes.
absl::Status ServeRankOf(RankParts parts, RankChannel* channel);

// Loads this rank's part of options.model, on the CPU, and serves.
absl::Status ServeRank(const EngineOptions& options, const RankLink& link);

// What a rank's process runs: ServeRank, or that of a device.
using RankServer = std::function<absl::Status(const EngineOptions&, const RankLink&)>;

}  // namespace baton
