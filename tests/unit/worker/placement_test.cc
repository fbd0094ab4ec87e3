#include "worker/placement.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include "common/cpu_list.h"
#include "tests/unit/common/fake_nodes.h"

namespace baton {
namespace {

using ::testing::ElementsAre;
using ::testing::HasSubstr;
using ::testing::IsEmpty;

MachineCpus Machine(const FakeNodes& fake, const char* allowed) {
  return {.nodes = *ReadNumaNodes(fake.root()), .allowed = *ParseCpuList(allowed)};
}

// Two nodes of four CPUs and one of memory only; the process may not run on CPU 7.
class PlacementTest : public testing::Test {
 protected:
  PlacementTest() : fake_("0-2") {
    fake_.Add(0, "0-3", 16 << 20);
    fake_.Add(1, "4-7", 16 << 20);
    fake_.Add(2, "", 16 << 20);
    machine_ = Machine(fake_, "0-6");
  }
  std::string Error(const PlacementSettings& settings) const {
    const absl::Status status = ResolvePlacement(settings, machine_).status();
    EXPECT_EQ(status.code(), absl::StatusCode::kInvalidArgument);
    return std::string(status.message());
  }
  FakeNodes fake_;
  MachineCpus machine_;
};

TEST_F(PlacementTest, WithoutSettingsNothingIsPlaced) {
  const Placement placement = *ResolvePlacement({.threads = 64}, machine_);
  EXPECT_EQ(placement.threads, 64);
  EXPECT_THAT(placement.pin_cpus, IsEmpty());
  EXPECT_EQ(placement.numa_node, -1);
  EXPECT_TRUE(ApplyPlacement(placement).ok());
  EXPECT_EQ(DescribePlacement(placement), "threads on any CPU; memory from any node");
}

TEST_F(PlacementTest, CpusSetTheThreadsUnlessTheyAreSet) {
  const Placement placement =
      *ResolvePlacement({.cpus = "5,0-2", .threads = 1, .threads_set = false}, machine_);
  EXPECT_EQ(placement.threads, 4);
  EXPECT_THAT(placement.pin_cpus, ElementsAre(5, 0, 1, 2));
  EXPECT_EQ(DescribePlacement(placement),
            "threads on any CPU, compute threads pinned to 5,0-2; memory from any node");
  EXPECT_THAT(Error({.cpus = "0-2", .threads = 1}),
              HasSubstr("cpus: 0-2 are 3 CPUs for 1 threads"));
  EXPECT_TRUE(ResolvePlacement({.cpus = "0-2", .threads = 3}, machine_).ok());
}

TEST_F(PlacementTest, RefusesWrongCpus) {
  EXPECT_THAT(Error({.cpus = "0-"}), HasSubstr("cpus: \"0-\" is not a list"));
  EXPECT_THAT(Error({.cpus = "7"}), HasSubstr("may not run on CPU 7; allowed: 0-6"));
  EXPECT_THAT(Error({.cpus = "3", .numa_node = 1}),
              HasSubstr("may not run on CPU 3 of NUMA node 1; allowed: 4-6"));
}

TEST_F(PlacementTest, ANodeGivesItsAllowedCpusAndItsMemory) {
  const Placement placement =
      *ResolvePlacement({.cpus = "4,6", .numa_node = 1, .threads = 2}, machine_);
  EXPECT_EQ(placement.numa_node, 1);
  EXPECT_THAT(placement.node_cpus, ElementsAre(4, 5, 6));
  EXPECT_EQ(DescribePlacement(placement),
            "threads on CPUs 4-6, compute threads pinned to 4,6; memory from NUMA node 1");
}

TEST_F(PlacementTest, RefusesNodesThatCannotHoldTheWorker) {
  EXPECT_THAT(Error({.numa_node = 5}),
              HasSubstr("numa_node: 5 is not a node of this machine; there are 0 (CPUs 0-3, 16.0 "
                        "GiB), 1 (CPUs 4-7, 16.0 GiB), 2 (no CPUs"));
  EXPECT_THAT(Error({.numa_node = 1, .threads = 4}),
              HasSubstr("threads: 4 on NUMA node 1, where this process has 3 CPUs"));
  EXPECT_THAT(Error({.numa_node = 2}), HasSubstr("where this process has 0 CPUs"));
  fake_.Add(1, "4-7", 0);
  machine_ = Machine(fake_, "0-6");
  EXPECT_THAT(Error({.numa_node = 1}), HasSubstr("numa_node: 1 has no memory"));
}

TEST_F(PlacementTest, WorkersTakeTurnsOnNodesThatCanHoldThem) {
  EXPECT_THAT(SpreadOverNodes(machine_, 5), ElementsAre(0, 1, 0, 1, 0));
  EXPECT_THAT(SpreadOverNodes(Machine(fake_, "4-7"), 5), IsEmpty()) << "restricted to one node";
  fake_.Write("online", "0\n");
  EXPECT_THAT(SpreadOverNodes(Machine(fake_, "0-7"), 5), IsEmpty());
}

}  // namespace
}  // namespace baton
