// What kernels ask of memory at the shapes of Llama-3-8B, counted in their PTX: sectors of global
// memory against those that the bytes take, and wavefronts of shared memory against those without
// bank conflicts. Prints a table, with the lines that ask for more.
#include <gtest/gtest.h>

#include <cstdio>
#include <functional>
#include <map>
#include <string>
#include <utility>

#include "engine/kernels/cuda/copy_rows.h"
#include "engine/kernels/cuda/dequantize.h"
#include "engine/kernels/cuda/invariant_linear.h"
#include "engine/kernels/cuda/quantized_linear.h"
#include "engine/kernels/cuda/rms_norm.h"
#include "engine/kernels/cuda/rope_write.h"
#include "engine/kernels/cuda/sampling.h"
#include "engine/kernels/cuda/silu_mul.h"
#include "tests/support/ptx/traffic.h"
#include "tests/unit/engine/cuda/attention_harness.h"

namespace baton {
namespace {

using ptx::Space;
using ptx::Traffic;
using ptx::TrafficCounter;

constexpr int32_t kHidden = 4096;
constexpr int32_t kFeedForward = 14336;
constexpr AttentionShapeCase kAttention{.num_heads = 32, .num_kv_heads = 8, .head_dim = 128};
constexpr AttentionShapeCase kOneKvHead{.num_heads = 4, .num_kv_heads = 1, .head_dim = 128};
constexpr double kSectorKb = 0.032;

// Where a launch may ask for more than it has to, and how much more.
struct Most {
  double sectors = 1.0;     // times those that the bytes of each request take
  double wavefronts = 1.0;  // times those without conflicts
  double asked = 1.1;       // times the bytes of all sectors that are touched, once each
};

double Times(uint64_t units, uint64_t least) {
  return least == 0 ? 1.0 : static_cast<double>(units) / static_cast<double>(least);
}

std::string LineOf(const TrafficCounter::Site& site) {
  const std::string file = site.instruction->where.file;
  return file.substr(file.rfind('/') + 1) + ":" + std::to_string(site.instruction->where.line) +
         (site.space == Space::kShared ? " shared" : " global");
}

class KernelTrafficTest : public CudaAttentionTest {
 protected:
  // Of what `run` launches.
  void Expect(const std::string& name, const Most& most, const std::function<void()>& run) {
    TrafficCounter counter;
    run();
    ASSERT_TRUE(context().Synchronize().ok());
    const Traffic global = counter.Sum(Space::kGlobal);
    const Traffic shared = counter.Sum(Space::kShared);
    const double sectors = Times(global.units, global.least_units);
    const double wavefronts = Times(shared.units, shared.least_units);
    const double asked = Times(global.units, counter.DistinctSectors());
    std::printf("%-32s %8.1f KB, asked for %.3f times; sectors %.3f, wavefronts %.3f\n",
                name.c_str(), static_cast<double>(counter.DistinctSectors()) * kSectorKb, asked,
                sectors, wavefronts);
    std::map<std::string, std::pair<uint64_t, uint64_t>> lines;
    for (const auto& [site, traffic] : counter.sites()) {
      if (traffic.units == traffic.least_units) continue;
      lines[LineOf(site)].first += traffic.units;
      lines[LineOf(site)].second += traffic.least_units;
    }
    for (const auto& [line, units] : lines) {
      std::printf("    %s: %llu for %llu\n", line.c_str(),
                  static_cast<unsigned long long>(units.first),
                  static_cast<unsigned long long>(units.second));
    }
    EXPECT_GT(global.requests, 0u);
    EXPECT_LE(sectors, most.sectors) << name;
    EXPECT_LE(wavefronts, most.wavefronts) << name;
    EXPECT_LE(asked, most.asked) << name;
  }

  // Weights of what was there.
  static CudaMatrix Matrix(int32_t n, int32_t k, WeightElement element) {
    absl::StatusOr<CudaMatrix> matrix = CudaMatrix::Create(n, k, element);
    BATON_CHECK(matrix.ok()) << matrix.status();
    return *std::move(matrix);
  }
};

TEST_F(KernelTrafficTest, DecodeAttentionReadsKeysAndValuesOnce) {
  AttentionWorld world(kAttention, {1024});
  Expect("decode attention, 1,024", {.sectors = 1.01, .wavefronts = 1.02},
         [&] { Run(world, {.rows = {{.start_position = 1023, .num_rows = 1}}}); });
}

// Of 64 queries in a block, which read the keys and values before them.
TEST_F(KernelTrafficTest, PrefillAttentionHasNoBankConflicts) {
  AttentionWorld world(kOneKvHead, {256});
  AttentionRun run{.kind = AttentionKind::kPrefill,
                   .rows = {{.start_position = 0, .num_rows = 256}}};
  Expect("prompt by mma, 256", {.sectors = 1.2, .asked = 3.2}, [&] { Run(world, run); });
  run.kind = AttentionKind::kWgmmaPrefill;
  Expect("prompt by wgmma, 256", {.sectors = 1.5, .asked = 3.2}, [&] { Run(world, run); });
}

TEST_F(KernelTrafficTest, NormsReadAndWriteOnce) {
  const DeviceArray<float> input = OnDevice<float>(size_t{kHidden});
  const DeviceArray<float> weight = OnDevice<float>(size_t{kHidden});
  DeviceArray<Bf16> output = OnDevice<Bf16>(size_t{kHidden});
  Expect("norm", {}, [&] {
    RmsNorm(context(), {.input = input.data(),
                        .weight = weight.data(),
                        .output = output.data(),
                        .rows = 1,
                        .width = kHidden,
                        .epsilon = 1e-5f});
  });
}

// Each thread has gates and their ups, 32 bytes, which it asks for by halves: the second half of a
// sector is in L1.
TEST_F(KernelTrafficTest, SwigluAsksForSectorsTwice) {
  const DeviceArray<Bf16> input = OnDevice<Bf16>(size_t{2} * kFeedForward);
  DeviceArray<Bf16> output = OnDevice<Bf16>(size_t{kFeedForward});
  Expect("SwiGLU", {.sectors = 1.67, .asked = 1.67}, [&] {
    SiluMul(context(),
            {.input = input.data(), .output = output.data(), .rows = 1, .width = kFeedForward});
  });
}

// Queries where they lie, so that their sectors are asked for twice.
TEST_F(KernelTrafficTest, RotationsReadAndWriteOnce) {
  constexpr int32_t kWidth = (32 + 2 * 8) * 128;
  const KvLayout layout{.num_layers = 1, .num_kv_heads = 8, .head_dim = 128, .block_size = 16};
  DeviceArray<Bf16> qkv = OnDevice(RandomBf16(size_t{16} * kWidth));
  std::vector<int32_t> positions(16);
  std::vector<KvSlot> slots(16, {.block = BlockId(0)});
  for (int32_t row = 0; row < 16; ++row) {
    positions[static_cast<size_t>(row)] = row;
    slots[static_cast<size_t>(row)].offset = row;
  }
  const DeviceArray<int32_t> device_positions = OnDevice(positions);
  const DeviceArray<KvSlot> device_slots = OnDevice(slots);
  const DeviceArray<float> frequencies = OnDevice(Random(64));
  DeviceArray<std::byte> cache = OnDevice<std::byte>(static_cast<size_t>(layout.BlockBytes()));
  Expect("rotation and KV write, 16 rows", {.wavefronts = 2.0, .asked = 1.6}, [&] {
    RopeWrite(context(), {.qkv = qkv.data(),
                          .row_stride = kWidth,
                          .positions = device_positions.data(),
                          .slots = device_slots.data(),
                          .inverse_frequencies = frequencies.data(),
                          .layer = ViewKvLayer(layout, cache.data()),
                          .rows = 16,
                          .num_heads = 32});
  });
}

// A part of a matrix: blocks of others ask for their own.
TEST_F(KernelTrafficTest, ProductsReadWeightsOnceWithoutBankConflicts) {
  const CudaMatrix matrix = Matrix(256, kHidden, WeightElement::kBf16);
  const DeviceArray<Bf16> input = OnDevice<Bf16>(size_t{128} * kHidden);
  DeviceArray<float> output = OnDevice<float>(size_t{128} * 256);
  const auto expect = [&](const char* name, InvariantKernel kernel, int32_t rows,
                          const Most& most) {
    Expect(name, most, [&] {
      InvariantLinearBy(context(), kernel,
                        {.input = input.data(),
                         .weights = &matrix,
                         .epilogue = CudaEpilogue::kStoreF32,
                         .output = output.data(),
                         .rows = rows});
    });
  };
  // Sums of warps meet, once for each output.
  expect("product, 1 row", InvariantKernel::kFewRows, 1, {.wavefronts = 1.5});
  expect("product, 16 rows", InvariantKernel::kFewRows, 16, {.asked = 1.5});
  expect("product, 32 rows", InvariantKernel::kFewRows, 32, {.asked = 1.8});
  expect("product, small tiles, 64 rows", InvariantKernel::kSmallTiles, 64, {.asked = 1.6});
  expect("product, large tiles, 128 rows", InvariantKernel::kLargeTiles, 128, {.asked = 1.4});
}

TEST_F(KernelTrafficTest, QuantizedProductsReadWeightsOnceAndInputsFromCaches) {
  const DeviceArray<Bf16> input = OnDevice<Bf16>(size_t{16} * kHidden);
  DeviceArray<float> output = OnDevice<float>(size_t{16} * 256);
  for (const auto& [element, name] :
       {std::pair(WeightElement::kInt8, "int8"), {WeightElement::kInt4, "int4"}}) {
    const CudaMatrix matrix = Matrix(256, kHidden, element);
    const std::string product = std::string("product of ") + name;
    for (const auto& [rows, most] :
         {std::pair(1, Most{.wavefronts = 1.5, .asked = 1.25}), {16, {.asked = 2.3}}}) {
      const int32_t count = rows;
      Expect(product + (rows == 1 ? ", 1 row" : ", 16 rows"), most, [&] {
        QuantizedLinear(context(), {.input = input.data(),
                                    .weights = &matrix,
                                    .epilogue = CudaEpilogue::kStoreF32,
                                    .output = output.data(),
                                    .rows = count});
      });
    }
    DeviceArray<Bf16> ordinary = OnDevice<Bf16>(size_t{256} * kHidden);
    Expect(std::string("weights of ") + name + " as bf16", {}, [&] {
      Dequantize(context(),
                 {.weights = &matrix, .begin = 0, .end = 256, .output = ordinary.data()});
    });
  }
}

TEST_F(KernelTrafficTest, TheMostLikelyTokenTakesOneReading) {
  constexpr int32_t kVocab = 128256;
  const DeviceArray<float> logits = OnDevice(Random(size_t{kVocab}));
  const DeviceArray<CudaSampleRow> rows = OnDevice(std::vector<CudaSampleRow>(1));
  DeviceArray<CudaDrawnToken> drawn = OnDevice<CudaDrawnToken>(size_t{1});
  DeviceArray<std::byte> scratch = OnDevice<std::byte>(SamplingScratchBytes(1, kVocab));
  Expect("greedy draw of 128,256", {.sectors = 1.01}, [&] {
    SampleTokens(context(), {.logits = logits.data(),
                             .rows = rows.data(),
                             .drawn = drawn.data(),
                             .scratch = scratch.data(),
                             .num_rows = 1,
                             .vocab_size = kVocab});
  });
}

TEST_F(KernelTrafficTest, KvBlocksAreCopiedInWholeSectors) {
  constexpr int64_t kBlockBytes = 65536;  // 16 positions of 8 heads of 128, keys and values
  DeviceArray<std::byte> pool = OnDevice<std::byte>(size_t{8 * kBlockBytes});
  DeviceArray<std::byte> slot = OnDevice<std::byte>(size_t{3 * kBlockBytes});
  std::byte* layer = pool.data();
  const std::vector<BlockId> blocks = {BlockId(5), BlockId(0), BlockId(3)};
  const KvSlotArgs args{.layers = std::span(&layer, 1),
                        .slot = slot.data(),
                        .block_bytes = kBlockBytes,
                        .blocks = blocks};
  Expect("KV blocks to a slot", {},
         [&] { ASSERT_EQ(GatherKvBlocks(context().stream(), args), cudaSuccess); });
  Expect("KV blocks from a slot", {},
         [&] { ASSERT_EQ(ScatterKvBlocks(context().stream(), args), cudaSuccess); });
}

}  // namespace
}  // namespace baton
