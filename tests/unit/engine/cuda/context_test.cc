#include "engine/kernels/cuda/context.h"

#include <gmock/gmock.h>

#include "engine/kernels/cuda/copy_rows.h"
#include "tests/unit/engine/cuda/cuda_harness.h"

namespace baton {
namespace {

using testing::HasSubstr;

class ContextTest : public CudaTest {};

TEST_F(ContextTest, KnowsItsDevice) {
  EXPECT_GE(context().info().compute_capability, CudaContext::kMinComputeCapability);
  EXPECT_GT(context().info().multiprocessors, 0);
  EXPECT_GE(context().info().shared_bytes, 48 << 10);
  EXPECT_LE(context().info().free_bytes, context().info().memory_bytes);
}

TEST_F(ContextTest, ADeviceThatIsNotThereIsNotFound) {
  const absl::Status status = CudaContext::Create(4711).status();
  EXPECT_EQ(status.code(), absl::StatusCode::kNotFound);
  EXPECT_THAT(status.message(), HasSubstr("4711"));
}

TEST_F(ContextTest, KeepsTheFirstError) {
  context().Note(cudaErrorInvalidValue, "first");
  context().Note(cudaErrorMemoryAllocation, "second");
  EXPECT_EQ(context().status().code(), absl::StatusCode::kInternal);
  EXPECT_THAT(context().Synchronize().message(), HasSubstr("first: cudaErrorInvalidValue"));
  SetUp();  // this error is no failure of the test
}

TEST_F(ContextTest, ArraysGoThereAndBack) {
  const std::vector<float> values = Random(1001);
  DeviceArray<float> array = OnDevice(values);
  EXPECT_EQ(OnHost(array), values);
  const DeviceArray<float> moved = std::move(array);
  EXPECT_EQ(array.data(), nullptr);
  EXPECT_EQ(OnHost(moved), values);
  EXPECT_EQ(OnHost(OnDevice<float>(0)).size(), 0u);
}

TEST_F(ContextTest, PinnedMemoryIsReadWhenTheCopyRuns) {
  absl::StatusOr<PinnedArray<int32_t>> pinned = PinnedArray<int32_t>::Create(2);
  ASSERT_TRUE(pinned.ok());
  DeviceArray<int32_t> array = OnDevice<int32_t>(2);
  pinned->data()[0] = 3;
  pinned->data()[1] = 4;
  Upload(context(), std::span<const int32_t>(pinned->data(), 2), &array);
  EXPECT_EQ(OnHost(array), (std::vector<int32_t>{3, 4}));
}

TEST_F(ContextTest, TooMuchMemoryIsRefusedWithNumbers) {
  const absl::Status status = DeviceArray<float>::Create(size_t{1} << 50).status();
  EXPECT_EQ(status.code(), absl::StatusCode::kResourceExhausted);
  EXPECT_THAT(status.message(), HasSubstr("1125899906842624 x 4 bytes of device memory"));
  EXPECT_EQ(DeviceArray<float>::Create(~size_t{0}).status().code(),
            absl::StatusCode::kResourceExhausted);
  EXPECT_TRUE(context().Synchronize().ok());
}

TEST_F(ContextTest, AGraphDoesItsWorkAtEveryLaunch) {
  const std::vector<int32_t> first = {1, 2, 3, 4};
  DeviceArray<int32_t> input = OnDevice(first);
  const DeviceArray<int32_t> indices = OnDevice(std::vector<int32_t>{0});
  DeviceArray<int32_t> output = OnDevice<int32_t>(4);
  ASSERT_TRUE(context().Synchronize().ok());
  cudaGraph_t graph = nullptr;
  cudaGraphExec_t executable = nullptr;
  ASSERT_EQ(cudaStreamBeginCapture(context().stream(), cudaStreamCaptureModeThreadLocal),
            cudaSuccess);
  GatherRows(context(), {.input = reinterpret_cast<const std::byte*>(input.data()),
                         .indices = indices.data(),
                         .output = reinterpret_cast<std::byte*>(output.data()),
                         .row_bytes = 16,
                         .rows = 1});
  ASSERT_EQ(cudaStreamEndCapture(context().stream(), &graph), cudaSuccess);
  ASSERT_EQ(cudaGraphInstantiate(&executable, graph, 0), cudaSuccess);
  EXPECT_NE(OnHost(output), first) << "captured, not run";
  ASSERT_EQ(cudaGraphLaunch(executable, context().stream()), cudaSuccess);
  EXPECT_EQ(OnHost(output), first);
  const std::vector<int32_t> second = {5, 6, 7, 8};
  Upload(context(), second, &input);
  ASSERT_EQ(cudaGraphLaunch(executable, context().stream()), cudaSuccess);
  EXPECT_EQ(OnHost(output), second);
  EXPECT_EQ(cudaGraphExecDestroy(executable), cudaSuccess);
  EXPECT_EQ(cudaGraphDestroy(graph), cudaSuccess);
}

}  // namespace
}  // namespace baton
