// What only the emulation can do to an engine: break its device, for the rest of the process.
#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <cuda_runtime.h>

#include <memory>
#include <string>
#include <vector>

#include "common/kv_staging.h"
#include "engine/model/cuda/cuda_kv_cache.h"
#include "engine/runtime/cuda/cuda_engine.h"
#include "tests/unit/engine/model/cuda_model_harness.h"

namespace baton {
namespace {

using ::testing::HasSubstr;

// Three runs of neighbours each, of which the second cannot be started.
TEST(CudaKvStagingFaultsTest, ACopyThatStartedInPartFailsHoweverItIsSettled) {
  const KvLayout layout{.num_layers = 1, .num_kv_heads = 1, .head_dim = 8, .block_size = 4};
  const auto cache = CudaKvCache::Create(0, layout, 8);
  ASSERT_TRUE(cache.ok()) << cache.status();
  const auto staging = (*cache)->staging()->Create(8 * static_cast<size_t>(layout.BlockBytes()));
  ASSERT_TRUE(staging.ok()) << staging.status();
  const std::vector<BlockId> blocks = {BlockId(0), BlockId(2), BlockId(4)};
  std::vector<absl::Status> copies;
  const auto done = [&](absl::Status status) { copies.push_back(std::move(status)); };
  for (const bool settle : {false, true}) {
    copies.clear();
    cuda_emulation::FailACopyAfter(1);
    (*staging)->CopyIn(0, (*staging)->memory().data(), blocks, done);
    (*staging)->CopyOut(0, blocks, (*staging)->memory().data(), done);
    EXPECT_TRUE(copies.empty()) << "runs of it may still be under way";
    if (settle) {
      (*staging)->Settle();
    } else {
      while (!(*staging)->idle()) (*staging)->Progress();
    }
    ASSERT_EQ(copies.size(), 2u);
    EXPECT_THAT(std::string(copies[0].message()), HasSubstr("cudaErrorInvalidValue"));
    EXPECT_TRUE(copies[1].ok()) << copies[1];
  }
}

// The last test: the device stays broken.
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
  const auto direct =
      (*engine)->kv_memory().staging->CreateOnDevice({.count = 2, .bytes = 1 << 20});
  ASSERT_TRUE(direct.ok()) << direct.status();
  GenerationSpec spec{.tokens = {1, 2, 3, 4, 5}, .prompt_length = 5};
  spec.stopping.max_tokens = 4;
  ASSERT_TRUE((*engine)->scheduler().Add(spec, SequenceMode::kGenerate).ok());
  ASSERT_TRUE((*engine)->Step(nullptr).ok());
  ASSERT_TRUE((*engine)->Health().ok());

  std::vector<absl::Status> copies;
  const BlockId block(0);
  const auto done = [&](absl::Status status) { copies.push_back(std::move(status)); };
  std::byte* slot = (*direct)->memory().data();
  (*staging)->CopyOut(0, {&block, 1}, (*staging)->memory().data(), done);
  (*direct)->CopyOut(0, {&block, 1}, slot, done);
  cuda_emulation::BreakDevice();
  (*staging)->CopyIn(0, (*staging)->memory().data(), {&block, 1}, done);
  (*direct)->CopyIn(0, slot + (1 << 20), {&block, 1}, done);
  while (!(*staging)->idle()) (*staging)->Progress();
  (*direct)->Progress();
  (*direct)->Settle();
  ASSERT_EQ(copies.size(), 4u);
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
