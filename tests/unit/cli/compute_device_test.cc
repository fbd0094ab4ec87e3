#include "cli/compute_device.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

namespace baton {
namespace {

using testing::ElementsAre;
using testing::IsEmpty;

TEST(ComputeDeviceTest, TakesWhatOperatorsSay) {
  EXPECT_FALSE(ParseComputeDevice("cpu")->cuda);
  EXPECT_EQ(ParseComputeDevice("cuda")->index, 0);
  EXPECT_EQ(ParseComputeDevice("cuda:3")->index, 3);
  for (const char* wrong :
       {"", "gpu", "cuda:", "cuda:-1", "cuda:x", "cuda:1024", "cuda:0,cuda:1"}) {
    EXPECT_EQ(ParseComputeDevice(wrong).status().code(), absl::StatusCode::kInvalidArgument)
        << wrong;
  }
}

TEST(ComputeDeviceTest, WorkersTakeDevicesInTurns) {
  EXPECT_THAT(*DevicesOfWorkers("cuda:1,cuda", 3), ElementsAre("cuda:1", "cuda:0", "cuda:1"));
  EXPECT_THAT(*DevicesOfWorkers("cpu", 2), ElementsAre("cpu", "cpu"));
  EXPECT_FALSE(DevicesOfWorkers("cuda:0,cpu", 2).ok());
}

// Two of one GPU, and one of both and the next.
TEST(ComputeDeviceTest, WorkersThatShareGpusKnowOneAnother) {
  const std::vector<std::string> devices = {"cuda:0", "cuda:1", "cuda:0", "cuda:2", "cuda:4"};
  const std::vector<int32_t> degrees = {1, 1, 3, 1, 2};
  const auto before = [&](size_t worker) {
    return WorkersBeforeOnGpusOf(worker, devices, degrees);
  };
  EXPECT_THAT(before(0), IsEmpty());
  EXPECT_THAT(before(1), IsEmpty());
  EXPECT_THAT(before(2), ElementsAre(0, 1));
  EXPECT_THAT(before(3), ElementsAre(2));
  EXPECT_THAT(before(4), IsEmpty());
  for (const size_t worker : {0, 1, 2, 3}) {
    EXPECT_EQ(WorkersOnGpusOf(worker, devices, degrees), 2) << worker;
  }
  EXPECT_EQ(WorkersOnGpusOf(4, devices, degrees), 1);
}

}  // namespace
}  // namespace baton
