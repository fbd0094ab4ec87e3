#include <array>

#include "engine/kernels/compute_pool.h"
#include "engine/kernels/cuda/copy_rows.h"
#include "engine/kernels/cuda/embedding.h"
#include "engine/kernels/cuda/rms_norm.h"
#include "engine/kernels/cuda/silu_mul.h"
#include "tests/unit/engine/cuda/cuda_harness.h"

namespace baton {
namespace {

class CudaRowOpsTest : public CudaTest {};

TEST_F(CudaRowOpsTest, EmbeddingReadsTheRowsOfTheTokens) {
  for (const int32_t width : {1, 8, 31, 40, 1032, 2048}) {
    const std::vector<Bf16> table = RandomBf16(size_t{7} * width);
    const std::vector<TokenId> tokens = {6, 0, 3, 3, 5};
    const DeviceArray<Bf16> device_table = OnDevice(table);
    const DeviceArray<TokenId> device_tokens = OnDevice(tokens);
    DeviceArray<float> output = OnDevice<float>(tokens.size() * width);
    Embedding(context(), {.table = device_table.data(),
                          .num_tokens = 7,
                          .tokens = device_tokens.data(),
                          .output = output.data(),
                          .rows = static_cast<int32_t>(tokens.size()),
                          .width = width});
    const std::vector<float> found = OnHost(output);
    for (size_t i = 0; i < found.size(); ++i) {
      ASSERT_EQ(found[i], ToFloat(table[tokens[i / width] * width + i % width])) << width;
    }
  }
}

TEST_F(CudaRowOpsTest, EmbeddingOfAPartOfTheVocabularyIsZerosForOtherTokens) {
  for (const int32_t width : {31, 40}) {
    const std::vector<Bf16> table = RandomBf16(size_t{3} * width);
    const std::vector<TokenId> tokens = {3, 4, 0, 6, 7, 5};
    const DeviceArray<Bf16> device_table = OnDevice(table);
    const DeviceArray<TokenId> device_tokens = OnDevice(tokens);
    DeviceArray<float> output = OnDevice<float>(tokens.size() * width);
    Embedding(context(), {.table = device_table.data(),
                          .first_token = 4,
                          .num_tokens = 3,
                          .tokens = device_tokens.data(),
                          .output = output.data(),
                          .rows = static_cast<int32_t>(tokens.size()),
                          .width = width});
    const std::vector<float> found = OnHost(output);
    for (size_t i = 0; i < found.size(); ++i) {
      const TokenId token = tokens[i / width] - 4;
      const bool there = token >= 0 && token < 3;
      ASSERT_EQ(found[i], there ? ToFloat(table[token * width + i % width]) : 0.0f) << width;
    }
  }
}

TEST_F(CudaRowOpsTest, RmsNormNormalisesEachRow) {
  for (const int32_t width : {1, 4, 33, 62, 128, 1280, 3072, 4100, 8192, 12304, 16388, 33024}) {
    const int32_t rows = width > 4096 ? 2 : 5;
    const std::vector<float> input = Random(static_cast<size_t>(rows) * width);
    const std::vector<float> weight = Random(width);
    const DeviceArray<float> device_input = OnDevice(input);
    const DeviceArray<float> device_weight = OnDevice(weight);
    DeviceArray<Bf16> output = OnDevice<Bf16>(input.size());
    RmsNorm(context(), {.input = device_input.data(),
                        .weight = device_weight.data(),
                        .output = output.data(),
                        .rows = rows,
                        .width = width,
                        .epsilon = 1e-3f});
    const std::vector<Bf16> found = OnHost(output);
    for (int32_t r = 0; r < rows; ++r) {
      const float* x = input.data() + int64_t{r} * width;
      double squares = 0;
      for (int32_t i = 0; i < width; ++i) squares += double{x[i]} * x[i];
      const double factor = 1.0 / std::sqrt(squares / width + 1e-3);
      for (int32_t i = 0; i < width; ++i) {
        const double exact = x[i] * factor * weight[i];
        ASSERT_NEAR(ToFloat(found[int64_t{r} * width + i]), exact, Bf16Tolerance(exact)) << width;
      }
    }
  }
}

TEST_F(CudaRowOpsTest, RmsNormAgreesWithTheCpu) {
  const int32_t rows = 6;
  const int32_t width = 896;
  const std::vector<float> input = Random(size_t{rows} * width);
  const std::vector<float> weight = Random(width);
  std::vector<float> expected(input.size());
  const std::unique_ptr<ComputePool> pool = *ComputePool::Create(1, {});
  RmsNorm(OpContext{GetKernels(Isa::kAvx2, /*f32=*/true), *pool}, {.input = input.data(),
                                                                   .weight = weight.data(),
                                                                   .output = expected.data(),
                                                                   .rows = rows,
                                                                   .width = width,
                                                                   .epsilon = 1e-5f});
  const DeviceArray<float> device_input = OnDevice(input);
  const DeviceArray<float> device_weight = OnDevice(weight);
  DeviceArray<Bf16> output = OnDevice<Bf16>(input.size());
  RmsNorm(context(), {.input = device_input.data(),
                      .weight = device_weight.data(),
                      .output = output.data(),
                      .rows = rows,
                      .width = width,
                      .epsilon = 1e-5f});
  const std::vector<Bf16> found = OnHost(output);
  for (size_t i = 0; i < found.size(); ++i) {
    ASSERT_NEAR(ToFloat(found[i]), expected[i], Bf16Tolerance(expected[i]));
  }
}

TEST_F(CudaRowOpsTest, SiluMulGatesTheUpProjection) {
  for (const int32_t width : {1, 7, 8, 130, 1024}) {
    const int32_t rows = 3;
    std::vector<float> wide = Random(static_cast<size_t>(rows) * width * 2, 4.0f);
    wide[0] = -100.0f;  // e^100 is infinite in f32
    const std::vector<Bf16> input = ToBf16s(wide);
    const DeviceArray<Bf16> device_input = OnDevice(input);
    DeviceArray<Bf16> output = OnDevice<Bf16>(static_cast<size_t>(rows) * width);
    SiluMul(context(),
            {.input = device_input.data(), .output = output.data(), .rows = rows, .width = width});
    const std::vector<Bf16> found = OnHost(output);
    for (size_t i = 0; i < found.size(); ++i) {
      const double gate = ToFloat(input[2 * i]);
      const double exact = gate / (1 + std::exp(-gate)) * ToFloat(input[2 * i + 1]);
      ASSERT_NEAR(ToFloat(found[i]), exact, Bf16Tolerance(exact)) << width << " " << i;
    }
  }
}

TEST_F(CudaRowOpsTest, GatherRowsTakesRowsByIndex) {
  for (const int32_t row_bytes : {1, 6, 16, 48, 16400, 20001}) {
    std::vector<std::byte> input(size_t{5} * row_bytes);
    for (std::byte& b : input) b = static_cast<std::byte>(random_());
    const std::vector<int32_t> indices = {4, 0, 0, 2};
    const DeviceArray<std::byte> device_input = OnDevice(input);
    const DeviceArray<int32_t> device_indices = OnDevice(indices);
    DeviceArray<std::byte> output = OnDevice<std::byte>(indices.size() * row_bytes);
    GatherRows(context(), {.input = device_input.data(),
                           .indices = device_indices.data(),
                           .output = output.data(),
                           .row_bytes = row_bytes,
                           .rows = static_cast<int32_t>(indices.size())});
    const std::vector<std::byte> found = OnHost(output);
    for (size_t i = 0; i < found.size(); ++i) {
      ASSERT_EQ(found[i], input[indices[i / row_bytes] * row_bytes + i % row_bytes]) << row_bytes;
    }
  }
}

TEST_F(CudaRowOpsTest, CopyBlocksCopiesInAllLayers) {
  constexpr int32_t kLayers = 3;
  constexpr int32_t kBlocks = 6;
  for (const int32_t block_bytes : {16, 2048, 20496}) {
    std::vector<DeviceArray<std::byte>> layers;
    std::vector<std::vector<std::byte>> expected;
    std::vector<std::byte*> bases;
    for (int32_t layer = 0; layer < kLayers; ++layer) {
      std::vector<std::byte> bytes(size_t{kBlocks} * block_bytes);
      for (std::byte& b : bytes) b = static_cast<std::byte>(random_());
      layers.push_back(OnDevice(bytes));
      bases.push_back(layers.back().data());
      expected.push_back(std::move(bytes));
    }
    const std::vector<KvBlockCopy> copies = {{BlockId(5), BlockId(0)}, {BlockId(1), BlockId(4)}};
    const DeviceArray<std::byte*> device_bases = OnDevice(bases);
    const DeviceArray<KvBlockCopy> device_copies = OnDevice(copies);
    CopyBlocks(context(), {.layers = device_bases.data(),
                           .copies = device_copies.data(),
                           .block_bytes = block_bytes,
                           .num_layers = kLayers,
                           .num_copies = static_cast<int32_t>(copies.size())});
    for (int32_t layer = 0; layer < kLayers; ++layer) {
      std::vector<std::byte>& bytes = expected[layer];
      for (const KvBlockCopy& copy : copies) {
        std::copy_n(bytes.begin() + copy.from.value() * block_bytes, block_bytes,
                    bytes.begin() + copy.to.value() * block_bytes);
      }
      EXPECT_EQ(OnHost(layers[layer]), bytes) << block_bytes;
    }
  }
}

TEST_F(CudaRowOpsTest, KvBlocksGoToASlotAndBackInTheOrderAsked) {
  constexpr int64_t kLayerBlocks = 700;
  for (const int64_t block_bytes : {16, 272, 20496}) {
    // More than one launch takes, where blocks are small.
    const int64_t count = block_bytes == 20496 ? 3 : 500;
    std::vector<std::byte> layer(static_cast<size_t>(kLayerBlocks * block_bytes));
    for (std::byte& b : layer) b = static_cast<std::byte>(random_());
    std::vector<BlockId> blocks;
    std::vector<std::byte> expected;
    std::vector<std::byte> emptied = layer;
    for (int64_t i = 0; i < count; ++i) {
      const int64_t block = (i * 3 + 5) % kLayerBlocks;
      blocks.push_back(BlockId(static_cast<int32_t>(block)));
      const auto from = layer.begin() + block * block_bytes;
      expected.insert(expected.end(), from, from + block_bytes);
      std::fill_n(emptied.begin() + block * block_bytes, block_bytes, std::byte{0});
    }
    DeviceArray<std::byte> full = OnDevice(layer);
    DeviceArray<std::byte> empty = OnDevice(emptied);
    DeviceArray<std::byte> slot = OnDevice(std::vector<std::byte>(expected.size()));
    std::byte* region = full.data();
    const KvSlotArgs args{
        .layers = {&region, 1}, .slot = slot.data(), .block_bytes = block_bytes, .blocks = blocks};
    EXPECT_EQ(GatherKvBlocks(context().stream(), args), cudaSuccess);
    EXPECT_EQ(OnHost(slot), expected) << block_bytes;
    region = empty.data();
    EXPECT_EQ(ScatterKvBlocks(context().stream(), args), cudaSuccess);
    EXPECT_EQ(OnHost(empty), layer) << block_bytes;
  }
}

// Blocks of which each of a few regions has a part.
class CudaRegionsTest : public CudaRowOpsTest,
                        public ::testing::WithParamInterface<std::array<size_t, 4>> {
 protected:
  static constexpr size_t kLayerBlocks = 700;
  CudaRegionsTest() {
    for (size_t i = 0; i < count_; ++i) {
      blocks_.push_back(BlockId(static_cast<int32_t>((i * 3 + 5) % kLayerBlocks)));
    }
    for (size_t region = 0; region < regions_; ++region) {
      layers_.push_back(RandomBytes(kLayerBlocks * 2 * piece_bytes_));
    }
  }
  // Those of one part have other bytes here, so that it shows which of them is read.
  void ToDevice() {
    for (const std::vector<std::byte>& layer : layers_) {
      arrays_.push_back(OnDevice(layer));
      bases_.push_back(arrays_.back().data());
    }
  }
  KvSlotArgs Args(DeviceArray<std::byte>& slot) const {
    return {.layers = bases_,
            .copies = copies_,
            .slot = slot.data(),
            .block_bytes = static_cast<int64_t>(2 * piece_bytes_),
            .blocks = blocks_};
  }
  std::vector<std::byte> RandomBytes(size_t count) {
    std::vector<std::byte> bytes(count);
    for (std::byte& b : bytes) b = static_cast<std::byte>(random_());
    return bytes;
  }
  size_t SlotBytes() const { return count_ * 2 * parts_ * piece_bytes_; }
  // `visit` takes a part, and where a piece of it is in its layers and in the slot, in bytes.
  template <typename Visit>
  void ForEachPiece(const Visit& visit) const {
    for (size_t i = 0; i < count_; ++i) {
      for (size_t which = 0; which < 2; ++which) {  // keys, values
        for (size_t part = 0; part < parts_; ++part) {
          visit(part, (static_cast<size_t>(blocks_[i].value()) * 2 + which) * piece_bytes_,
                ((i * 2 + which) * parts_ + part) * piece_bytes_);
        }
      }
    }
  }

  const size_t regions_ = GetParam()[0];
  const size_t copies_ = GetParam()[1];
  const size_t parts_ = regions_ / copies_;
  const size_t piece_bytes_ = GetParam()[2];
  const size_t count_ = GetParam()[3];
  std::vector<BlockId> blocks_;
  std::vector<std::vector<std::byte>> layers_;
  std::vector<DeviceArray<std::byte>> arrays_;
  std::vector<std::byte*> bases_;
};

TEST_P(CudaRegionsTest, KvBlocksOfThemComeTogether) {
  ToDevice();
  std::vector<std::byte> expected(SlotBytes());
  ForEachPiece([&](size_t part, size_t in_layer, size_t in_slot) {
    std::copy_n(layers_[part * copies_].data() + in_layer, piece_bytes_, expected.data() + in_slot);
  });
  DeviceArray<std::byte> slot = OnDevice<std::byte>(SlotBytes());
  EXPECT_EQ(GatherKvBlocks(context().stream(), Args(slot)), cudaSuccess);
  EXPECT_EQ(OnHost(slot), expected);
}

TEST_P(CudaRegionsTest, KvBlocksGoToAllOfThemAndNothingElseIsWritten) {
  ToDevice();
  const std::vector<std::byte> came = RandomBytes(SlotBytes());
  DeviceArray<std::byte> slot = OnDevice(came);
  ForEachPiece([&](size_t part, size_t in_layer, size_t in_slot) {
    for (size_t region = part * copies_; region < (part + 1) * copies_; ++region) {
      std::copy_n(came.data() + in_slot, piece_bytes_, layers_[region].data() + in_layer);
    }
  });
  EXPECT_EQ(ScatterKvBlocks(context().stream(), Args(slot)), cudaSuccess);
  for (size_t region = 0; region < regions_; ++region) {
    EXPECT_EQ(OnHost(arrays_[region]), layers_[region]) << "region " << region;
  }
}

// Regions, copies of each part, bytes of a piece, blocks: in the last more than one launch takes.
INSTANTIATE_TEST_SUITE_P(Regions, CudaRegionsTest,
                         ::testing::Values(std::array<size_t, 4>{2, 1, 16, 7},
                                           std::array<size_t, 4>{4, 2, 4112, 3},
                                           std::array<size_t, 4>{3, 3, 48, 5},
                                           std::array<size_t, 4>{6, 2, 32, 500}));

TEST_F(CudaRowOpsTest, NothingToDoStartsNothing) {
  Embedding(context(), {});
  RmsNorm(context(), {});
  SiluMul(context(), {});
  GatherRows(context(), {});
  CopyBlocks(context(), {});
  EXPECT_EQ(GatherKvBlocks(context().stream(), {}), cudaSuccess);
  EXPECT_TRUE(context().Synchronize().ok()) << context().status();
}

}  // namespace
}  // namespace baton
