// What only the emulation can do to an engine: break its device, for the rest of the process.
#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <cuda_runtime.h>

#include <memory>
#include <string>

#include "absl/synchronization/notification.h"
#include "common/kv_staging.h"
#include "engine/runtime/cuda/cuda_engine.h"
#include "tests/unit/engine/model/cuda_model_harness.h"

namespace baton {
namespace {

using ::testing::HasSubstr;

TEST(CudaEngineFaultsTest, ABrokenDeviceGivesNoTokenAndPlacesNoKv) {
  EngineOptions options;
  options.model.path = DummyPath(kCudaTinyModels[0].name, kCudaTinyModels[0].config);
  options.num_blocks = 16;
  options.scheduler.max_batch_tokens = 16;
  options.scheduler.max_batch_sequences = 4;
  const auto engine = LoadCudaEngine(options, nullptr);
  ASSERT_TRUE(engine.ok()) << engine.status();
  const auto staging = (*engine)->kv_memory().staging->Create(1 << 20);
  ASSERT_TRUE(staging.ok()) << staging.status();
  GenerationSpec spec{.tokens = {1, 2, 3, 4, 5}, .prompt_length = 5};
  spec.stopping.max_tokens = 4;
  ASSERT_TRUE((*engine)->scheduler().Add(spec, SequenceMode::kGenerate).ok());
  ASSERT_TRUE((*engine)->Step(nullptr).ok());
  ASSERT_TRUE((*engine)->Health().ok());

  const BlockId block(0);
  std::vector<absl::Status> copies;
  const auto done = [&](absl::Status status) { copies.push_back(std::move(status)); };
  (*staging)->CopyOut(0, {&block, 1}, (*staging)->memory().data(), done);
  cuda_emulation::BreakDevice();
  (*staging)->CopyIn(0, (*staging)->memory().data(), {&block, 1}, done);
  while (!(*staging)->idle()) (*staging)->Progress();
  ASSERT_EQ(copies.size(), 2u);
  for (const absl::Status& copy : copies) {
    EXPECT_THAT(std::string(copy.message()), HasSubstr("cudaErrorLaunchFailure"));
  }

  EXPECT_EQ((*engine)->Health().code(), absl::StatusCode::kInternal);
  const auto result = (*engine)->Step(nullptr);
  EXPECT_EQ(result.status().code(), absl::StatusCode::kInternal);
  EXPECT_THAT(std::string(result.status().message()), HasSubstr("cudaErrorLaunchFailure"));
  EXPECT_TRUE((*engine)->scheduler().TakeEvents().empty());
}

}  // namespace
}  // namespace baton
