#include "engine/kernels/cuda/rope_write.h"

#include "engine/kernels/aligned_buffer.h"
#include "engine/kernels/compute_pool.h"
#include "engine/kernels/rms_norm.h"
#include "engine/kernels/rope.h"
#include "tests/unit/engine/cuda/cuda_harness.h"

namespace baton {
namespace {

struct Shape {
  int32_t num_heads;
  int32_t num_kv_heads;
  int32_t head_dim;
  bool norm;
};

// The same by the CPU's ops in f32, one after another.
class RopeWriteTest : public CudaTest {
 protected:
  static constexpr int32_t kBlocks = 4;
  static constexpr float kEpsilon = 1e-4f;

  void Prepare(const Shape& shape) {
    shape_ = shape;
    layout_ = {.num_layers = 1,
               .num_kv_heads = shape.num_kv_heads,
               .head_dim = shape.head_dim,
               .block_size = 8};
    const int32_t width = (shape.num_heads + 2 * shape.num_kv_heads) * shape.head_dim;
    stride_ = width + 8;  // what follows stays untouched
    qkv_ = RandomBf16(static_cast<size_t>(rows() * stride_));
    norms_ = Random(size_t{2} * shape.head_dim);
    for (int32_t i = 0; i < shape.head_dim / 2; ++i) {
      frequencies_.push_back(static_cast<float>(std::pow(10000.0, -2.0 * i / shape.head_dim)));
    }
  }

  int64_t rows() const { return static_cast<int64_t>(positions_.size()); }

  // [rows, stride] after norm and rotation of queries and keys.
  std::vector<float> Rotated() const {
    std::vector<float> numbers;
    for (const Bf16 x : qkv_) numbers.push_back(ToFloat(x));
    const std::unique_ptr<ComputePool> pool = *ComputePool::Create(1, {});
    const OpContext cpu{GetKernels(Isa::kAvx2, /*f32=*/true), *pool};
    std::vector<float> cosines(positions_.size() * frequencies_.size());
    std::vector<float> sines(cosines.size());
    RopeAngles(cpu, positions_, frequencies_, cosines.data(), sines.data());
    for (const bool keys : {false, true}) {
      float* heads = numbers.data() + (keys ? shape_.num_heads * shape_.head_dim : 0);
      const int32_t num_heads = keys ? shape_.num_kv_heads : shape_.num_heads;
      if (shape_.norm) {
        HeadNorm(cpu, {.heads = heads,
                       .weight = norms_.data() + (keys ? shape_.head_dim : 0),
                       .row_stride = stride_,
                       .rows = static_cast<int32_t>(rows()),
                       .num_heads = num_heads,
                       .head_dim = shape_.head_dim,
                       .epsilon = kEpsilon});
      }
      Rope(cpu, {.heads = heads,
                 .cosines = cosines.data(),
                 .sines = sines.data(),
                 .row_stride = stride_,
                 .rows = static_cast<int32_t>(rows()),
                 .num_heads = num_heads,
                 .head_dim = shape_.head_dim});
    }
    return numbers;
  }

  void Run() {
    DeviceArray<Bf16> qkv = OnDevice(qkv_);
    const DeviceArray<int32_t> positions = OnDevice(positions_);
    const DeviceArray<KvSlot> slots = OnDevice(slots_);
    const DeviceArray<float> frequencies = OnDevice(frequencies_);
    const DeviceArray<float> norms = OnDevice(norms_);
    DeviceArray<std::byte> cache =
        OnDevice(std::vector<std::byte>(static_cast<size_t>(kBlocks * layout_.BlockBytes())));
    RopeWrite(context(), {.qkv = qkv.data(),
                          .row_stride = stride_,
                          .positions = positions.data(),
                          .slots = slots.data(),
                          .inverse_frequencies = frequencies.data(),
                          .query_norm = shape_.norm ? norms.data() : nullptr,
                          .key_norm = shape_.norm ? norms.data() + shape_.head_dim : nullptr,
                          .epsilon = kEpsilon,
                          .layer = ViewKvLayer(layout_, cache.data()),
                          .rows = static_cast<int32_t>(rows()),
                          .num_heads = shape_.num_heads});
    found_qkv_ = OnHost(qkv);
    found_cache_ = OnHost(cache);
  }

  Bf16 Cached(const KvSlot& slot, int32_t part, int32_t i) const {
    const int64_t row = int64_t{part} * layout_.block_size + slot.offset;
    Bf16 number;
    std::memcpy(&number,
                found_cache_.data() + slot.block.value() * layout_.BlockBytes() +
                    row * layout_.RowBytes() + i * int64_t{sizeof(Bf16)},
                sizeof(Bf16));
    return number;
  }

  Shape shape_{};
  KvLayout layout_;
  int64_t stride_ = 0;
  const std::vector<int32_t> positions_ = {0, 1, 77, 131071, 5};
  const std::vector<KvSlot> slots_ = {
      {BlockId(3), 7}, {BlockId(0), 0}, {BlockId(3), 1}, {BlockId(2), 4}, {BlockId(-1), 0}};
  std::vector<Bf16> qkv_;
  std::vector<float> norms_;
  std::vector<float> frequencies_;
  std::vector<Bf16> found_qkv_;
  std::vector<std::byte> found_cache_;
};

TEST_F(RopeWriteTest, RotatesQueriesAndWritesKeysAndValues) {
  for (const Shape& shape : {Shape{1, 1, 8, true}, Shape{4, 2, 64, false}, Shape{5, 1, 80, true},
                             Shape{3, 3, 24, true}, Shape{2, 1, 200, false}, Shape{8, 2, 128, true},
                             Shape{40, 8, 128, false}, Shape{2, 2, 256, true}}) {
    frequencies_.clear();
    Prepare(shape);
    const std::vector<float> expected = Rotated();
    Run();
    const int32_t queries = shape.num_heads * shape.head_dim;
    size_t written = 0;
    for (int64_t row = 0; row < rows(); ++row) {
      for (int64_t i = row * stride_; i < (row + 1) * stride_; ++i) {
        if (i - row * stride_ < queries) {
          ASSERT_NEAR(ToFloat(found_qkv_[i]), expected[i], Bf16Tolerance(expected[i]) + 1e-5)
              << shape.head_dim << " row " << row << " at " << i - row * stride_;
        } else {
          ASSERT_EQ(found_qkv_[i], qkv_[i]);
        }
      }
      if (slots_[row].block.value() < 0) continue;
      for (int32_t i = 0; i < 2 * shape.num_kv_heads * shape.head_dim; ++i) {
        const float exact = expected[row * stride_ + queries + i];
        const float cached = ToFloat(Cached(slots_[row], i / shape.head_dim, i % shape.head_dim));
        ASSERT_NEAR(cached, exact, Bf16Tolerance(exact) + 1e-5) << shape.head_dim << " " << i;
        written += cached != 0 ? 1 : 0;
      }
    }
    size_t not_zero = 0;
    for (size_t i = 0; i < found_cache_.size(); i += sizeof(Bf16)) {
      not_zero += found_cache_[i] != std::byte{0} || found_cache_[i + 1] != std::byte{0} ? 1 : 0;
    }
    EXPECT_EQ(not_zero, written) << "nothing but the slots was written";
  }
}

}  // namespace
}  // namespace baton
