#include "common/numa.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <linux/mempolicy.h>
#include <sys/mman.h>
#include <sys/syscall.h>
#include <unistd.h>

#include <thread>

#include "common/cpu_list.h"
#include "tests/unit/common/fake_nodes.h"

namespace baton {
namespace {

using ::testing::ElementsAre;
using ::testing::HasSubstr;
using ::testing::IsEmpty;

TEST(CpuListTest, ReadsNumbersAndRangesInTheirOrder) {
  EXPECT_THAT(*ParseCpuList(""), IsEmpty());
  EXPECT_THAT(*ParseCpuList("\n"), IsEmpty());
  EXPECT_THAT(*ParseCpuList("5"), ElementsAre(5));
  EXPECT_THAT(*ParseCpuList("8,0-3,10-11\n"), ElementsAre(8, 0, 1, 2, 3, 10, 11));
  EXPECT_THAT(*ParseCpuList("1023"), ElementsAre(1023));
}

TEST(CpuListTest, RefusesEverythingElse) {
  for (const char* text : {"a", "-", "1-", "-1", "0-3,", ",1", "1,,2", "3-1", "1024", "0-1024",
                           "2,2", "0-3,3", "0x1", "1.5", "0-2-4", "0-10:2/4", "99999999999"}) {
    const absl::Status status = ParseCpuList(text).status();
    EXPECT_EQ(status.code(), absl::StatusCode::kInvalidArgument) << text;
    EXPECT_THAT(std::string(status.message()), HasSubstr("expected numbers and ranges"));
  }
}

TEST(CpuListTest, FormatsWhatItReads) {
  for (const char* text : {"", "5", "0-3,8", "8,0-3", "0-1,3-4,1023"}) {
    EXPECT_EQ(FormatCpuList(*ParseCpuList(text)), text);
  }
}

TEST(CpuListTest, AThreadStaysOnTheCpusThatItIsAllowed) {
  const std::vector<int32_t> all = *AllowedCpus();
  ASSERT_FALSE(all.empty());
  std::thread([&] {
    ASSERT_TRUE(AllowOnlyCpus(std::span(all).last(1)).ok());
    EXPECT_THAT(*AllowedCpus(), ElementsAre(all.back()));
    EXPECT_EQ(AllowOnlyCpus({}).code(), absl::StatusCode::kInvalidArgument);
  }).join();
  EXPECT_EQ(*AllowedCpus(), all) << "of that thread only";
}

TEST(NumaNodesTest, ReadsOneNode) {
  const FakeNodes fake("0");
  fake.Add(0, "0-1", 5990604);
  const auto nodes = *ReadNumaNodes(fake.root());
  ASSERT_EQ(nodes.size(), 1u);
  EXPECT_EQ(nodes[0].id, 0);
  EXPECT_THAT(nodes[0].cpus, ElementsAre(0, 1));
  EXPECT_EQ(nodes[0].memory_bytes, int64_t{5990604} * 1024);
  EXPECT_EQ(DescribeNodes(nodes), "0 (CPUs 0-1, 5.7 GiB)");
}

TEST(NumaNodesTest, ReadsTwoNodesAndOnesWithoutMemoryOrCpus) {
  const FakeNodes fake("0-1,3-4");
  fake.Add(0, "0-3,8-11", 16 << 20);
  fake.Add(1, "4,6-7", 16 << 20);  // 5 is offline
  fake.Add(2, "12", 16 << 20);     // the node is offline
  fake.Add(3, "13-14", 0);
  fake.Add(4, "", 32 << 20);
  const auto nodes = *ReadNumaNodes(fake.root());
  EXPECT_EQ(DescribeNodes(nodes),
            "0 (CPUs 0-3,8-11, 16.0 GiB), 1 (CPUs 4,6-7, 16.0 GiB), 3 (CPUs 13-14, no memory), 4 "
            "(no CPUs, 32.0 GiB)");
  EXPECT_THAT(CpusOnNode(nodes[0], std::vector<int32_t>{2, 4, 8}), ElementsAre(2, 8));
  const auto ids = [&](const std::vector<int32_t>& allowed) {
    std::vector<int32_t> usable;
    for (const NumaNode& node : UsableNodes(nodes, allowed)) usable.push_back(node.id);
    return usable;
  };
  EXPECT_THAT(ids({0, 1, 4, 6, 13, 14}), ElementsAre(0, 1));
  EXPECT_THAT(ids({6, 13}), ElementsAre(1));
  EXPECT_THAT(ids({5, 13}), IsEmpty());
}

TEST(NumaNodesTest, AKernelWithoutNumaShowsNone) {
  const auto nodes = ReadNumaNodes("/nowhere/node");
  ASSERT_TRUE(nodes.ok());
  EXPECT_THAT(*nodes, IsEmpty());
  EXPECT_EQ(DescribeNodes(*nodes), "none");
}

TEST(NumaNodesTest, AnErrorNamesTheFile) {
  const auto error = [](const FakeNodes& fake) {
    const absl::Status status = ReadNumaNodes(fake.root()).status();
    EXPECT_EQ(status.code(), absl::StatusCode::kInvalidArgument);
    return std::string(status.message());
  };
  const FakeNodes fake("0-1");
  fake.Add(0, "0-1", 1 << 20);
  EXPECT_THAT(error(fake), HasSubstr("node1/cpulist"));
  fake.Add(1, "some", 1 << 20);
  EXPECT_THAT(error(fake), HasSubstr("node1/cpulist: \"some"));
  fake.Add(1, "2", 1 << 20);
  fake.Write("node1/meminfo", "Node 1 MemFree: 12 kB\n");
  EXPECT_THAT(error(fake), HasSubstr("node1/meminfo: no line of MemTotal"));
  fake.Write("online", "0-\n");
  EXPECT_THAT(error(fake), HasSubstr("/online: \"0-"));
}

TEST(NumaNodesTest, ThisMachineCanBeRead) {
  const auto nodes = ReadNumaNodes(kNumaRoot);
  EXPECT_TRUE(nodes.ok()) << nodes.status();
}

// The node that the kernel has taken a page of this thread from.
int32_t NodeOfFreshPage() {
  const auto bytes = static_cast<size_t>(sysconf(_SC_PAGESIZE));
  void* page = mmap(nullptr, bytes, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
  *static_cast<volatile char*>(page) = 1;
  int node = -1;
  EXPECT_EQ(syscall(SYS_get_mempolicy, &node, nullptr, 0, page, MPOL_F_NODE | MPOL_F_ADDR), 0);
  munmap(page, bytes);
  return node;
}
int PolicyOfThread() {
  int mode = -1;
  EXPECT_EQ(syscall(SYS_get_mempolicy, &mode, nullptr, 0, nullptr, 0), 0);
  return mode;
}

TEST(BindMemoryTest, HoldsForTheThreadAndThoseThatItMakes) {
  const auto usable = UsableNodes(*ReadNumaNodes(kNumaRoot), *AllowedCpus());
  const int before = PolicyOfThread();
  if (usable.empty()) GTEST_SKIP() << "the kernel shows no NUMA nodes";
  std::thread([&] {
    const int32_t node = usable.back().id;
    const absl::Status bound = BindMemoryToNode(node);
    if (absl::IsPermissionDenied(bound)) GTEST_SKIP() << bound;
    ASSERT_TRUE(bound.ok()) << bound;
    EXPECT_EQ(NodeOfFreshPage(), node);
    std::thread([&] {
      EXPECT_EQ(PolicyOfThread(), MPOL_BIND);
      EXPECT_EQ(NodeOfFreshPage(), node);
    }).join();
    const absl::Status refused = BindMemoryToNode(kMaxNumaNode);
    EXPECT_EQ(refused.code(), absl::StatusCode::kInvalidArgument);
    EXPECT_THAT(std::string(refused.message()), HasSubstr("from NUMA node 1023 alone"));
  }).join();
  EXPECT_EQ(PolicyOfThread(), before) << "of that thread only";
}

}  // namespace
}  // namespace baton
