// The other processes of a worker whose model several processes compute together.
#pragma once

#include <memory>
#include <string>
#include <vector>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "cli/child_process.h"
#include "cli/rank_endpoint.h"
#include "engine/runtime/leading_model.h"

namespace baton {

// Used by one thread, but for CheckAlive.
class RankGroup {
 public:
  // Starts `baton rank` once for each of `arguments`, which say everything but how the rank is
  // reached: ranks 1, 2 …
  static absl::StatusOr<std::unique_ptr<RankGroup>> Start(
      const std::vector<std::vector<std::string>>& arguments, bool by_gloo);
  ~RankGroup();  // kills what still runs

  // Rank 0's. Of use until Connected, and as long as this lives.
  RankEndpoint Endpoint(absl::Duration spin) const;
  void Connected();
  // Rank 0's ends, once: the caller owns the descriptors.
  std::vector<RankLink> TakeLinks() { return std::move(links_); }
  // UNAVAILABLE names a rank that has ended, and how. Any thread.
  absl::Status CheckAlive() const;

 private:
  RankGroup() = default;
  absl::Status MakeMeetingPlace(bool by_gloo, int32_t size);
  absl::Status StartRank(size_t index, std::vector<std::string> arguments);

  std::string rendezvous_;  // a directory of the group's own; empty: none, or removed
  int group_fd_ = -1;       // instead of it
  std::vector<std::unique_ptr<ChildProcess>> ranks_;
  std::vector<RankLink> links_;
};

}  // namespace baton
