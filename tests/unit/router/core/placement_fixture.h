// A cluster that tests describe by hand, and the questions of placement put to it.
#pragma once

#include <gtest/gtest.h>

#include <array>
#include <cstddef>
#include <cstdint>
#include <string>

#include "absl/time/time.h"
#include "common/ids.h"
#include "router/core/cluster_view.h"
#include "router/core/events.h"
#include "router/core/link_costs.h"
#include "router/core/pair_ejection.h"
#include "router/core/placement.h"
#include "router/core/prefix_index.h"
#include "router/core/types.h"

namespace baton::router {

class PlacementTest : public ::testing::Test {
 protected:
  static constexpr absl::Time kNow = absl::UnixEpoch();

  // Prefill 2 ms + 0.1 ms a token; decode 4 ms + 1 ms a row.
  static constexpr StepModel kModel{.prefill_base_ms = 2,
                                    .prefill_token_ms = 0.1,
                                    .decode_base_ms = 4,
                                    .decode_row_ms = 1,
                                    .profiled_prefill_tokens = 4096,
                                    .profiled_decode_rows = 64};

  PlacementTest() : cluster_({.num_workers = 6}) {}

  void Add(int32_t index, Role role, const StepModel& model = {}) {
    WorkerUpEvent event{.from = From(index)};
    event.info = {.id = "w" + std::to_string(index),
                  .boot = BootId(static_cast<uint64_t>(index) + 1),
                  .role = role,
                  .protocol_version = 1,
                  .model_fingerprint = 7,
                  .block_size = 16,
                  .total_blocks = 100,
                  .max_batch_sequences = 10,
                  .max_batch_tokens = 512,
                  .prefill_credits = 2,
                  .step_model = model,
                  .paced_prefill = paced_};
    ASSERT_TRUE(cluster_.Up(kNow, event).ok());
  }
  void AddKnown(int32_t index, Role role) { Add(index, role, kModel); }
  static WorkerOrigin From(int32_t index) {
    return {WorkerIndex(index), SessionId(static_cast<uint64_t>(index) + 1)};
  }
  void Report(int32_t index, const WorkerReport& report) {
    ASSERT_TRUE(cluster_.Report(kNow, {From(index), report}));
  }
  void Holds(int32_t index, size_t blocks) {
    const Role role = cluster_.worker(WorkerIndex(index)).info.role;
    ASSERT_TRUE(prefixes_[static_cast<size_t>(role)].Apply(
        {.from = From(index),
         .snapshot = true,
         .stored = {prefix_.begin(), prefix_.begin() + static_cast<std::ptrdiff_t>(blocks)}}));
  }
  // A request that decodes there, with `left` tokens to go.
  int32_t Decoding(int32_t index, double tpot_ms, int32_t left, int32_t samples = 1) {
    const int32_t slot = cluster_.AddRow(
        WorkerIndex(index),
        {.samples = samples, .context = 64, .expected = left, .most = left, .tpot_ms = tpot_ms});
    cluster_.StartRow(kNow, WorkerIndex(index), slot);
    return slot;
  }
  PlacementAnswer Ask() {
    return ChoosePlacement({cluster_, prefixes_, links_, pairs_, in_place_}, query_);
  }
  Placement Choose() {
    const PlacementAnswer answer = Ask();
    EXPECT_TRUE(answer.placement.has_value());
    return answer.placement.value_or(Placement{});
  }
  Forecast Foresee(const QueuedWork& ahead = {}) {
    return MakeForecast({cluster_, prefixes_, links_, pairs_, in_place_, in_place_share_}, query_,
                        ahead);
  }

  ClusterView cluster_;
  std::array<PrefixIndex, 3> prefixes_{PrefixIndex(1000), PrefixIndex(1000), PrefixIndex(1000)};
  LinkCosts links_;
  PairEjection pairs_{{}};
  bool in_place_ = true;
  bool paced_ = true;  // workers that come up
  double in_place_share_ = 0;
  PrefixHashes prefix_ = {1, 2, 3, 4, 5, 6, 7, 8};
  PlacementQuery query_{.now = kNow,
                        .tokens = 128,
                        .expected_output = 16,
                        .objective = {.ttft_left_ms = 1000, .tpot_ms = 100},
                        .prefix = &prefix_};
};

}  // namespace baton::router
