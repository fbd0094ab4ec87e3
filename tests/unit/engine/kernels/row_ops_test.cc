#include "engine/kernels/kv_write.h"
#include "engine/kernels/rms_norm.h"
#include "engine/kernels/rope.h"
#include "tests/unit/engine/kernels/kv_reference.h"
#include "tests/unit/engine/kernels/op_harness.h"

namespace baton {
namespace {

class RowOpsTest : public OpTest {};

TEST_P(RowOpsTest, RmsNormNormalisesEachRow) {
  for (const int32_t width : {2, 8, 15, 16, 40, 62, 1280}) {
    const int32_t rows = 37;
    const size_t count = static_cast<size_t>(rows) * width;
    const std::vector<float> input = Random(count);
    const std::vector<float> weight = Random(width);
    AlignedBuffer output(count * 4);
    RmsNorm(context(2), {.input = input.data(),
                         .weight = weight.data(),
                         .output = output.data(),
                         .rows = rows,
                         .width = width,
                         .epsilon = 1e-3f});
    for (int32_t r = 0; r < rows; ++r) {
      double squares = 0;
      for (int32_t i = 0; i < width; ++i) {
        const size_t at = static_cast<size_t>(r) * width + i;
        squares += double{input[at]} * input[at];
      }
      const double factor = 1.0 / std::sqrt(squares / width + 1e-3);
      for (int32_t i = 0; i < width; ++i) {
        const size_t at = static_cast<size_t>(r) * width + i;
        const double exact = input[at] * factor * weight[i];
        ASSERT_NEAR(Activation(output, at), exact, ActivationTolerance(exact)) << width;
      }
    }
  }
}

TEST_P(RowOpsTest, HeadNormNormalisesEachHeadInPlace) {
  for (const int32_t head_dim : {8, 24, 80, 128}) {
    const int32_t rows = 3;
    const int32_t heads = 5;
    const int64_t stride = int64_t{heads} * head_dim + 11;  // what follows stays untouched
    const std::vector<float> before = Random(static_cast<size_t>(rows * stride));
    const std::vector<float> weight = Random(head_dim);
    std::vector<float> after = before;
    HeadNorm(context(), {.heads = after.data(),
                         .weight = weight.data(),
                         .row_stride = stride,
                         .rows = rows,
                         .num_heads = heads,
                         .head_dim = head_dim,
                         .epsilon = 1e-6f});
    for (int32_t r = 0; r < rows; ++r) {
      for (int32_t h = 0; h < heads; ++h) {
        const float* x = before.data() + r * stride + h * head_dim;
        double squares = 0;
        for (int32_t i = 0; i < head_dim; ++i) squares += double{x[i]} * x[i];
        for (int32_t i = 0; i < head_dim; ++i) {
          const double exact = x[i] / std::sqrt(squares / head_dim + 1e-6) * weight[i];
          ASSERT_NEAR(after[r * stride + h * head_dim + i], exact, 1e-5 * std::abs(exact) + 1e-6);
        }
      }
      for (int64_t i = r * stride + heads * head_dim; i < (r + 1) * stride; ++i) {
        ASSERT_EQ(after[i], before[i]);
      }
    }
  }
}

TEST_P(RowOpsTest, RopeRotatesHalvesByPosition) {
  for (const int32_t head_dim : {8, 24, 64, 80}) {
    const int32_t half = head_dim / 2;
    const std::vector<int32_t> positions = {0, 1, 7, 1000, 131071};
    std::vector<float> frequencies;
    for (int32_t i = 0; i < half; ++i) {
      frequencies.push_back(static_cast<float>(std::pow(10000.0, -2.0 * i / head_dim)));
    }
    const auto rows = static_cast<int32_t>(positions.size());
    std::vector<float> cosines(positions.size() * half);
    std::vector<float> sines(positions.size() * half);
    RopeAngles(context(), positions, frequencies, cosines.data(), sines.data());
    const int32_t heads = 3;
    const int64_t stride = heads * head_dim + 5;
    const std::vector<float> before = Random(static_cast<size_t>(rows * stride));
    std::vector<float> after = before;
    Rope(context(), {.heads = after.data(),
                     .cosines = cosines.data(),
                     .sines = sines.data(),
                     .row_stride = stride,
                     .rows = rows,
                     .num_heads = heads,
                     .head_dim = head_dim});
    for (int32_t r = 0; r < rows; ++r) {
      for (int32_t i = 0; i < heads * half; ++i) {
        const int64_t at = r * stride + i / half * head_dim + i % half;
        const double angle = static_cast<float>(positions[r]) * frequencies[i % half];
        const double c = std::cos(angle);
        const double s = std::sin(angle);
        ASSERT_NEAR(after[at], before[at] * c - before[at + half] * s, 1e-5);
        ASSERT_NEAR(after[at + half], before[at + half] * c + before[at] * s, 1e-5);
      }
    }
  }
}

TEST_P(RowOpsTest, KvWriteTouchesExactlyItsSlots) {
  for (const KvDtype dtype : {cache_dtype(), KvDtype::kInt8}) {
    for (const int32_t head_dim : {8, 40, 64, 128, 200}) {
      const KvLayout layout{
          .num_layers = 1, .num_kv_heads = 3, .head_dim = head_dim, .dtype = dtype};
      AlignedBuffer cache(static_cast<size_t>(4 * layout.BlockBytes()));
      const std::vector<KvSlot> slots = {{BlockId(2), 15}, {BlockId(0), 0}, {BlockId(2), 3}};
      const int64_t stride = 2 * layout.num_kv_heads * head_dim + 7;
      std::vector<float> rows = Random(slots.size() * stride);
      for (int32_t i = 0; i < head_dim; ++i) rows[i] = 0;  // a key that is zero,
      for (int32_t i = 0; i < head_dim; ++i) rows[stride + i] = 2e-38f * float(i);  // and nearly
      KvWrite(context(), {.keys = rows.data(),
                          .values = rows.data() + layout.num_kv_heads * head_dim,
                          .row_stride = stride,
                          .slots = slots.data(),
                          .layer = ViewKvLayer(layout, cache.data()),
                          .rows = static_cast<int32_t>(slots.size())});
      std::vector<std::byte> expected(static_cast<size_t>(4 * layout.BlockBytes()));
      for (size_t r = 0; r < slots.size(); ++r) {
        for (int32_t part = 0; part < 2 * layout.num_kv_heads; ++part) {  // K of all heads, then V
          const std::span<const float> values(&rows[r * stride + part * head_dim],
                                              static_cast<size_t>(head_dim));
          const int64_t row = int64_t{part} * layout.block_size + slots[r].offset;
          StoreKvRow(dtype, values,
                     expected.data() + slots[r].block.value() * layout.BlockBytes() +
                         row * layout.RowBytes());
        }
      }
      for (size_t i = 0; i < expected.size(); ++i) {
        ASSERT_EQ(cache.data()[i], expected[i])
            << KvDtypeName(dtype) << " head_dim " << head_dim << " byte " << i;
      }
    }
  }
}

// An int8 has no NaN: the scale tells.
TEST_P(RowOpsTest, AnInt8CacheKeepsThatANumberIsNotFinite) {
  const KvLayout layout{
      .num_layers = 1, .num_kv_heads = 1, .head_dim = 72, .dtype = KvDtype::kInt8};
  for (const float strange : {NAN, -NAN, INFINITY, -INFINITY}) {
    for (const int32_t at : {0, 31, 40, 71}) {
      AlignedBuffer cache(static_cast<size_t>(layout.BlockBytes()));
      std::vector<float> rows = Random(2 * 72);
      rows[at] = strange;
      const KvSlot slot{BlockId(0), 0};
      KvWrite(context(), {.keys = rows.data(),
                          .values = rows.data() + 72,
                          .row_stride = 144,
                          .slots = &slot,
                          .layer = ViewKvLayer(layout, cache.data()),
                          .rows = 1});
      const std::vector<float> kept = LoadKvRow(KvDtype::kInt8, 72, cache.data());
      for (int32_t i = 0; i < 72; ++i) {
        EXPECT_EQ(std::isnan(kept[i]), i / kKvScaleGroup == at / kKvScaleGroup) << i << " " << at;
      }
    }
  }
}

INSTANTIATE_TEST_SUITE_P(All, RowOpsTest, testing::ValuesIn(AllTables()), TableName);

}  // namespace
}  // namespace baton
