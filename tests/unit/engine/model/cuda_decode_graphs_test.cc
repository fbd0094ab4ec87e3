// Decode steps as graphs, and copies of blocks at once: what decides about them, and that nothing
// shows of them in the logits.
#include "engine/model/cuda/decode_graphs.h"

#include <gtest/gtest.h>

#include <algorithm>
#include <set>
#include <utility>
#include <vector>

#include "engine/kernels/cuda/copy_rows.h"
#include "engine/model/cuda/block_copies.h"
#include "tests/unit/engine/cuda/cuda_harness.h"
#include "tests/unit/engine/model/cuda_model_harness.h"

namespace baton {
namespace {

CudaStepShape DecodeShape(int32_t sequences, int32_t positions) {
  return {.rows = sequences,
          .logit_rows = sequences,
          .decode = {.count = sequences, .max_rows = 1, .max_positions = positions}};
}

TEST(DecodeBucket, HoldsTheStepInTheNextPowers) {
  const CudaStepLimits limits = {
      .max_rows = 512, .max_logit_rows = 200, .max_sequences = 100, .max_positions = 10000};
  struct Case {
    int32_t sequences, positions, bucket_sequences, bucket_positions;
  };
  for (const Case& c : {Case{1, 1, 1, 1024}, Case{3, 1024, 4, 1024}, Case{4, 1025, 4, 4096},
                        Case{64, 4097, 64, 10000}, Case{65, 10000, 100, 10000}}) {
    const auto bucket = DecodeBucket(DecodeShape(c.sequences, c.positions), limits);
    ASSERT_TRUE(bucket.has_value()) << c.sequences;
    EXPECT_EQ(bucket->rows, c.bucket_sequences);
    EXPECT_EQ(bucket->logit_rows, c.bucket_sequences);
    EXPECT_EQ(bucket->decode.count, c.bucket_sequences);
    EXPECT_EQ(bucket->decode.max_rows, 1);
    EXPECT_EQ(bucket->decode.max_positions, c.bucket_positions);
    EXPECT_EQ(bucket->prefill.count, 0);
  }
}

TEST(DecodeBucket, IsForStepsOfOneRowEachWithinTheLimits) {
  const CudaStepLimits limits = {
      .max_rows = 512, .max_logit_rows = 20, .max_sequences = 100, .max_positions = 10000};
  EXPECT_FALSE(DecodeBucket({}, limits).has_value());
  EXPECT_FALSE(DecodeBucket(DecodeShape(21, 5), limits).has_value()) << "no room for the logits";
  CudaStepShape shape = DecodeShape(2, 5);
  shape.decode.max_rows = 2;
  EXPECT_FALSE(DecodeBucket(shape, limits).has_value());
  shape = DecodeShape(2, 5);
  shape.prefill.count = 1;
  EXPECT_FALSE(DecodeBucket(shape, limits).has_value());
}

// Each step finds its bucket among them, and there is no other.
TEST(DecodeBuckets, AreThoseOfAllStepsOfSoManySequences) {
  const CudaStepLimits limits = {
      .max_rows = 60, .max_logit_rows = 52, .max_sequences = 300, .max_positions = 5000};
  const auto key = [](const CudaStepShape& bucket) {
    return std::pair(bucket.decode.count, bucket.decode.max_positions);
  };
  for (const int32_t max_sequences : {1, 2, 5, 33, 48, 52, 80}) {
    std::set<std::pair<int32_t, int32_t>> expected;
    for (int32_t sequences = 1; sequences <= std::min(max_sequences, 52); ++sequences) {
      for (int32_t positions = 1; positions <= limits.max_positions; ++positions) {
        expected.insert(key(*DecodeBucket(DecodeShape(sequences, positions), limits)));
      }
    }
    std::vector<std::pair<int32_t, int32_t>> found;
    for (const CudaStepShape& bucket : DecodeBuckets(max_sequences, limits)) {
      EXPECT_EQ(bucket.rows, bucket.decode.count);
      found.push_back(key(bucket));
    }
    EXPECT_EQ(found, std::vector(expected.begin(), expected.end())) << max_sequences;
  }
}

TEST(CountApart, EndsWhereACopyMeetsAnEarlierOne) {
  const auto count = [](std::vector<std::pair<int32_t, int32_t>> pairs, size_t most = 10) {
    std::vector<KvBlockCopy> copies;
    for (const auto& [from, to] : pairs) copies.push_back({BlockId(from), BlockId(to)});
    return CountApart(copies, most);
  };
  EXPECT_EQ(count({}), 0u);
  EXPECT_EQ(count({{0, 1}, {0, 2}, {3, 4}}), 3u) << "one block may be read twice";
  EXPECT_EQ(count({{0, 1}, {0, 2}, {3, 4}}, 2), 2u);
  EXPECT_EQ(count({{0, 1}, {1, 2}}), 1u) << "reads what was written";
  EXPECT_EQ(count({{0, 1}, {2, 1}}), 1u) << "writes what was written";
  EXPECT_EQ(count({{0, 1}, {2, 3}, {4, 0}}), 2u) << "writes what was read";
}

class DecodeGraphsTest : public CudaTest {};

TEST_F(DecodeGraphsTest, TheSecondRunOfABucketIsCapturedAndOthersReplayIt) {
  DeviceArray<int32_t> input = OnDevice(std::vector<int32_t>{1, 2, 3, 4});
  const DeviceArray<int32_t> indices = OnDevice(std::vector<int32_t>{0});
  DeviceArray<int32_t> output = OnDevice<int32_t>(4);
  int enqueued = 0;
  DecodeGraphs graphs;
  KvRegion kv = {.layer_base = {reinterpret_cast<std::byte*>(output.data())}};
  // Each run copies what is in `input` by then.
  const auto run = [&](const CudaStepShape& bucket, int32_t value) {
    const std::vector<int32_t> values(4, value);
    Upload(context(), values, &input);
    const absl::Status status = graphs.Run(context(), bucket, kv, [&] {
      ++enqueued;
      GatherRows(context(), {.input = reinterpret_cast<const std::byte*>(input.data()),
                             .indices = indices.data(),
                             .output = reinterpret_cast<std::byte*>(output.data()),
                             .row_bytes = 16,
                             .rows = 1});
      return context().status();
    });
    EXPECT_TRUE(status.ok()) << status;
    EXPECT_EQ(OnHost(output), values);
  };
  for (int32_t i = 0; i < 5; ++i) run(DecodeShape(4, 1024), 10 + i);
  EXPECT_EQ(enqueued, 2);
  EXPECT_EQ(graphs.num_captured(), 1u);
  run(DecodeShape(4, 4096), 20);
  run(DecodeShape(8, 1024), 21);
  EXPECT_EQ(enqueued, 4);
  EXPECT_EQ(graphs.num_captured(), 1u);
  kv.layer_base = {reinterpret_cast<std::byte*>(input.data())};
  run(DecodeShape(4, 1024), 22);
  EXPECT_EQ(enqueued, 5) << "captured on other memory";
  EXPECT_EQ(graphs.num_captured(), 0u);
}

TEST_F(DecodeGraphsTest, AnErrorOfACapturedStepIsReturned) {
  DecodeGraphs graphs;
  const auto fail = [] { return absl::InternalError("of the step"); };
  const CudaStepShape bucket = DecodeShape(1, 1024);
  EXPECT_EQ(graphs.Run(context(), bucket, {}, fail).message(), "of the step");
  EXPECT_EQ(graphs.Run(context(), bucket, {}, fail).message(), "of the step");
  EXPECT_EQ(graphs.num_captured(), 0u);
}

// Sequences come and go within a bucket; some ask for no logits.
std::vector<std::vector<float>> DecodeSteps(Model* model, const KvRegion& kv,
                                            std::vector<int32_t>* layers) {
  PagedRunner runner(model, kv, 1);
  std::mt19937_64 random(11);
  std::vector<PagedRunner::Sequence> sequences(4);
  std::vector<std::vector<float>> values;
  for (size_t i = 0; i < sequences.size(); ++i) {
    const std::vector<TokenId> prompt = RandomTokens(5 + 9 * i, *model, random);
    values.push_back(runner.Step({{&sequences[i], prompt}}).values);
  }
  const std::vector<std::vector<size_t>> steps = {{0, 1, 2}, {2, 3, 0}, {0, 1, 2, 3}, {3, 2, 1, 0},
                                                  {1, 3, 2}, {1},       {1},          {1}};
  for (const std::vector<size_t>& step : steps) {
    const std::vector<TokenId> tokens = RandomTokens(step.size(), *model, random);
    std::vector<PagedRunner::Chunk> chunks;
    for (size_t i = 0; i < step.size(); ++i) {
      const int32_t first_logit = step.size() == 4 && i == 1 ? 1 : 0;
      chunks.push_back({&sequences[step[i]], std::span(tokens).subspan(i, 1), first_logit});
    }
    const Logits& logits = runner.Step(chunks, [&](int32_t layer) { layers->push_back(layer); });
    EXPECT_EQ(logits.num_rows, static_cast<int32_t>(step.size() == 4 ? 3 : step.size()));
    values.push_back(logits.values);
  }
  return values;
}

TEST_F(DecodeGraphsTest, GraphsGiveTheSameBitsAsSingleLaunches) {
  for (const TinyModel& tiny : kCudaTinyModels) {
    CudaModelOptions cuda = SmallLimits();
    cuda.batch_invariant = true;  // a graph has more rows than a step that it is filled up for
    const ModelOptions options = {.path = DummyPath(tiny.name, tiny.config)};
    const auto with = LoadOnCuda(options, cuda);
    cuda.use_graphs = false;
    const auto without = LoadOnCuda(options, cuda);
    const auto kv = MakeCudaKvCache(*with, 16);
    const auto other_kv = MakeCudaKvCache(*with, 16);
    std::vector<int32_t> layers, layers_without;
    const auto expected = DecodeSteps(without.get(), kv->region(), &layers_without);
    EXPECT_EQ(DecodeSteps(with.get(), kv->region(), &layers), expected) << tiny.name;
    EXPECT_EQ(layers, layers_without);
    EXPECT_EQ(DecodeSteps(with.get(), other_kv->region(), &layers), expected) << tiny.name;
  }
}

TEST_F(DecodeGraphsTest, AWarmModelGivesTheSameBitsAndItsKvIsAsItWas) {
  const TinyModel& tiny = kCudaTinyModels[0];
  const ModelOptions options = {.path = DummyPath(tiny.name, tiny.config)};
  const auto cold = LoadOnCuda(options);
  const auto warm = LoadOnCuda(options);
  const auto kv = MakeCudaKvCache(*cold, 16);
  const auto warm_kv = MakeCudaKvCache(*warm, 16);
  const auto buckets = warm->WarmUp(4, warm_kv->region());
  ASSERT_TRUE(buckets.ok()) << buckets.status();
  EXPECT_EQ(*buckets, 3) << "of 1, 2 and 4 sequences";
  for (int32_t layer = 0; layer < cold->info().num_layers; ++layer) {
    EXPECT_EQ(ReadLayer(warm_kv->region(), layer), ReadLayer(kv->region(), layer));
  }
  std::vector<int32_t> layers, warm_layers;
  EXPECT_EQ(DecodeSteps(warm.get(), warm_kv->region(), &warm_layers),
            DecodeSteps(cold.get(), kv->region(), &layers));
  EXPECT_EQ(warm_layers, layers);
}

TEST_F(DecodeGraphsTest, AModelWithoutGraphsHasNothingToWarmUp) {
  CudaModelOptions cuda = SmallLimits();
  cuda.use_graphs = false;
  const auto model =
      LoadOnCuda({.path = DummyPath(kCudaTinyModels[0].name, kCudaTinyModels[0].config)}, cuda);
  EXPECT_EQ(*model->WarmUp(4, MakeCudaKvCache(*model, 16)->region()), 0);
}

}  // namespace
}  // namespace baton
