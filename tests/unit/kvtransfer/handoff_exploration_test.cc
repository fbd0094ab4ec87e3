// The handoff protocol under random fault schedules, and proof that the exploration would see bugs.
//
//   --schedules=N   how many random schedules (100,000)
//   --first_seed=S  seed of the first one (1)
#include <gtest/gtest.h>

#include <charconv>
#include <cstring>
#include <iostream>

#include "tests/unit/kvtransfer/handoff_simulation.h"

namespace baton {
namespace {

using testing::HandoffSimulation;
using testing::SimulationCounts;

int64_t schedules = 100'000;
int64_t first_seed = 1;

TEST(HandoffExploration, KeepsItsInvariantsUnderRandomFaults) {
  SimulationCounts total;
  for (int64_t seed = first_seed; seed < first_seed + schedules; ++seed) {
    HandoffSimulation simulation(static_cast<uint64_t>(seed));
    const absl::Status status = simulation.Run();
    ASSERT_TRUE(status.ok()) << "seed " << seed << ": " << status;
    total.events += simulation.counts().events;
    total.sealed += simulation.counts().sealed;
    total.failed += simulation.counts().failed;
    total.delivered += simulation.counts().delivered;
    total.reopened += simulation.counts().reopened;
  }
  std::cout << schedules << " schedules from seed " << first_seed << ": " << total.events
            << " events, " << total.sealed << " sealed, " << total.delivered << " delivered, "
            << total.failed << " failed, " << total.reopened << " reopened\n";
  // The schedules must reach both ends, or the test shows nothing.
  EXPECT_GT(total.sealed, schedules / 2);
  EXPECT_GT(total.failed, schedules / 10);
  EXPECT_GT(total.reopened, schedules / 10);
}

struct Broken {
  const char* name;
  bool HandoffMutations::*flag;
};

class HandoffMutationTest : public ::testing::TestWithParam<Broken> {};

TEST_P(HandoffMutationTest, IsCaught) {
  constexpr uint64_t kSeeds = 5'000;
  HandoffMutations mutations;
  mutations.*GetParam().flag = true;
  for (uint64_t seed = 1; seed <= kSeeds; ++seed) {
    HandoffSimulation simulation(seed, mutations);
    const absl::Status status = simulation.Run();
    if (!status.ok()) {
      std::cout << GetParam().name << " caught by seed " << seed << ": " << status << "\n";
      return;
    }
  }
  FAIL() << GetParam().name << " survived " << kSeeds << " schedules";
}

INSTANTIATE_TEST_SUITE_P(
    EachBug, HandoffMutationTest,
    ::testing::Values(Broken{"release_on_timeout", &HandoffMutations::release_on_timeout},
                      Broken{"seal_before_landed", &HandoffMutations::seal_before_landed},
                      Broken{"skip_checksum", &HandoffMutations::skip_checksum},
                      Broken{"accept_stale_generation", &HandoffMutations::accept_stale_generation},
                      Broken{"accept_duplicate_blocks", &HandoffMutations::accept_duplicate_blocks},
                      Broken{"double_terminal", &HandoffMutations::double_terminal},
                      Broken{"lose_cancel", &HandoffMutations::lose_cancel},
                      Broken{"ignore_disconnect", &HandoffMutations::ignore_disconnect},
                      Broken{"early_unpin", &HandoffMutations::early_unpin},
                      Broken{"delivered_on_send_done", &HandoffMutations::delivered_on_send_done}),
    [](const auto& param) { return param.param.name; });

bool TakeFlag(const char* argument, const char* name, int64_t& value) {
  const size_t length = std::strlen(name);
  if (std::strncmp(argument, name, length) != 0) return false;
  const char* text = argument + length;
  return std::from_chars(text, text + std::strlen(text), value).ec == std::errc();
}

}  // namespace
}  // namespace baton

int main(int argc, char** argv) {
  ::testing::InitGoogleTest(&argc, argv);
  for (int i = 1; i < argc; ++i) {
    if (!baton::TakeFlag(argv[i], "--schedules=", baton::schedules) &&
        !baton::TakeFlag(argv[i], "--first_seed=", baton::first_seed)) {
      std::cerr << "unknown argument " << argv[i] << "\n";
      return 2;
    }
  }
  return RUN_ALL_TESTS();
}
