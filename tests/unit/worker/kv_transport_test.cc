// Which way the KV of a device takes, by what is asked for and what UCX can do.
#include "worker/kv_transport.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <string>
#include <utility>

#include "common/check.h"
#include "common/kv_staging.h"
#include "kvtransfer/transport/ucx_transport.h"

namespace baton {
namespace {

using ::testing::HasSubstr;
using ::testing::IsEmpty;

// Only says what a transport has to reach.
class Device final : public KvStagingFactory {
 public:
  explicit Device(absl::StatusOr<MemoryKind> memory) : memory_(std::move(memory)) {}
  absl::StatusOr<std::unique_ptr<KvStaging>> Create(size_t) override {
    return absl::InternalError("not asked for");
  }
  absl::StatusOr<std::unique_ptr<KvDeviceStaging>> CreateOnDevice(const KvSlots&) override {
    return absl::InternalError("not asked for");
  }
  absl::StatusOr<MemoryKind> device_memory() const override { return memory_; }

 private:
  const absl::StatusOr<MemoryKind> memory_;
};

class KvTransportTest : public ::testing::Test {
 protected:
  static KvTransport MakeOk(const std::string& buffers, const Device* device,
                            const std::string& name = "tcp") {
    absl::StatusOr<KvTransport> made = MakeKvTransport(name, buffers, device);
    BATON_CHECK(made.ok()) << made.status().ToString();
    return *std::move(made);
  }
  const Device reached_{MemoryKind::kHost};
  const Device cuda_{MemoryKind::kCuda};
  const Device apart_{absl::FailedPreconditionError("no peer access")};
};

TEST_F(KvTransportTest, OfAHostNothingIsChosen) {
  const KvTransport made = MakeOk("auto", nullptr);
  EXPECT_FALSE(made.direct);
  EXPECT_THAT(made.why_staged, IsEmpty());
  EXPECT_EQ(made.description, "TCP");
}

TEST_F(KvTransportTest, WhatTheTransportReachesIsUsedUnlessItIsNotWanted) {
  for (const char* buffers : {"auto", "cuda"}) {
    const KvTransport made = MakeOk(buffers, &reached_);
    EXPECT_TRUE(made.direct);
    EXPECT_THAT(made.why_staged, IsEmpty());
    EXPECT_THAT(made.description, HasSubstr("GPU memory"));
    EXPECT_TRUE(MemoryFor(made, {}).staged_on_device);
  }
  const KvTransport made = MakeOk("cpu", &reached_);
  EXPECT_FALSE(made.direct);
  EXPECT_EQ(made.why_staged, "kv.buffer_device is cpu");
  EXPECT_THAT(made.description, HasSubstr("pinned host memory"));
  EXPECT_FALSE(MemoryFor(made, {}).staged_on_device);
}

TEST_F(KvTransportTest, WhatItDoesNotReachGoesThroughTheHostAndSaysWhy) {
  if (FindUcxCudaTransports().copy) GTEST_SKIP() << "this UCX reaches CUDA memory";
  const KvTransport made = MakeOk("auto", &cuda_);
  EXPECT_FALSE(made.direct);
  EXPECT_THAT(made.why_staged, HasSubstr("UCX " + UcxVersion() + " does not reach CUDA memory"));
  const absl::Status refused = MakeKvTransport("tcp", "cuda", &cuda_).status();
  EXPECT_EQ(refused.code(), absl::StatusCode::kFailedPrecondition);
  EXPECT_THAT(std::string(refused.message()), HasSubstr("libucx-cu13"));
}

TEST_F(KvTransportTest, BlocksOfDevicesThatDoNotReachOneAnotherComeTogetherOnTheHost) {
  const KvTransport made = MakeOk("auto", &apart_);
  EXPECT_FALSE(made.direct);
  EXPECT_EQ(made.why_staged, "no peer access");
  EXPECT_EQ(MakeKvTransport("tcp", "cuda", &apart_).status(),
            absl::FailedPreconditionError("no peer access"));
  EXPECT_EQ(MakeOk("cpu", &apart_).why_staged, "kv.buffer_device is cpu");
}

TEST_F(KvTransportTest, ADeviceThatFailsIsNotTakenForAReasonToStage) {
  const Device broken(absl::InternalError("a broken device"));
  EXPECT_EQ(MakeKvTransport("tcp", "auto", &broken).status(),
            absl::InternalError("a broken device"));
}

TEST_F(KvTransportTest, InsideAProcessOnlyMemoryOfTheHostMoves) {
  EXPECT_THAT(MakeOk("auto", &cuda_, "loopback").why_staged, HasSubstr("memory of the host only"));
  EXPECT_EQ(MakeKvTransport("loopback", "cuda", &cuda_).status().code(),
            absl::StatusCode::kFailedPrecondition);
}

TEST_F(KvTransportTest, AnotherMistakeIsNotTakenForAReasonToStage) {
  EXPECT_EQ(MakeKvTransport("pigeon", "auto", &cuda_).status().code(),
            absl::StatusCode::kInvalidArgument);
}

}  // namespace
}  // namespace baton
