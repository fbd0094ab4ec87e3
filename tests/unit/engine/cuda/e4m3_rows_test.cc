// Ops that round their rows to e4m3, against those that write bf16 with QuantizeRows behind them:
// the same bits, whatever the rows hold.
#include <algorithm>
#include <cstring>
#include <limits>

#include "engine/kernels/cuda/quantize_rows.h"
#include "engine/kernels/cuda/rms_norm.h"
#include "engine/kernels/cuda/silu_mul.h"
#include "tests/unit/engine/cuda/cuda_harness.h"

namespace baton {
namespace {

constexpr float kInfinity = std::numeric_limits<float>::infinity();
constexpr float kNan = std::numeric_limits<float>::quiet_NaN();

struct Shape {
  int32_t rows;
  int32_t width;
};

class CudaE4m3RowsTest : public CudaTest {
 protected:
  struct Rounded {
    std::vector<uint8_t> codes;
    std::vector<uint32_t> scales;  // bits, so that NaNs are equal
    bool operator==(const Rounded&) const = default;
  };
  // What `write` makes of a shape's rows. Where it writes nothing, what was there stays.
  template <typename Write>
  Rounded Rows(const Shape& shape, Write write) {
    const auto count = static_cast<size_t>(shape.rows) * static_cast<size_t>(shape.width);
    DeviceArray<uint8_t> codes = OnDevice(std::vector<uint8_t>(count, 0x55));
    DeviceArray<float> scales =
        OnDevice(std::vector<float>(static_cast<size_t>(shape.rows), -1.0f));
    write(E4m3Rows{.values = codes.data(), .scales = scales.data()});
    Rounded rows = {.codes = OnHost(codes), .scales = {}};
    for (const float scale : OnHost(scales)) rows.scales.push_back(std::bit_cast<uint32_t>(scale));
    return rows;
  }
  // What `write_bf16` writes, rounded by QuantizeRows.
  template <typename Write>
  Rounded RowsOfTwoKernels(const Shape& shape, Write write_bf16) {
    DeviceArray<Bf16> numbers =
        OnDevice<Bf16>(static_cast<size_t>(shape.rows) * static_cast<size_t>(shape.width));
    write_bf16(numbers.data());
    return Rows(shape, [&](const E4m3Rows& rows) {
      QuantizeRows(context(), {.input = numbers.data(),
                               .output = rows.values,
                               .scales = rows.scales,
                               .rows = shape.rows,
                               .width = shape.width});
    });
  }

  void ExpectNormsAlike(const Shape& shape, const std::vector<float>& input,
                        const std::vector<float>& weight) {
    const DeviceArray<float> device_input = OnDevice(input);
    const DeviceArray<float> device_weight = OnDevice(weight);
    const RmsNormArgs args{.input = device_input.data(),
                           .weight = device_weight.data(),
                           .rows = shape.rows,
                           .width = shape.width,
                           .epsilon = 1e-5f};
    ExpectAlike(shape, args, shape.width, RmsNormToE4m3, RmsNorm);
  }
  void ExpectGatedAlike(const Shape& shape, const std::vector<Bf16>& input) {
    const DeviceArray<Bf16> device_input = OnDevice(input);
    const CudaSiluMulArgs args{
        .input = device_input.data(), .rows = shape.rows, .width = shape.width};
    ExpectAlike(shape, args, int64_t{2} * shape.width, SiluMulToE4m3, SiluMul);
  }

 private:
  // By one kernel and by two, and the last row alone; `inputs`: of a row.
  template <typename Args>
  void ExpectAlike(const Shape& shape, Args args, int64_t inputs,
                   void (*to_e4m3)(const CudaContext&, const Args&, const E4m3Rows&),
                   void (*to_bf16)(const CudaContext&, const Args&)) {
    const auto fused = [&](const E4m3Rows& rows) { to_e4m3(context(), args, rows); };
    const auto write_bf16 = [&](Bf16* output) {
      args.output = output;
      to_bf16(context(), args);
    };
    const Rounded rows = Rows(shape, fused);
    EXPECT_EQ(rows, RowsOfTwoKernels(shape, write_bf16))
        << shape.rows << " rows of " << shape.width;
    args.input += inputs * (shape.rows - 1);
    args.rows = 1;
    const Rounded alone = Rows({1, shape.width}, fused);
    EXPECT_EQ(rows.scales.back(), alone.scales[0]);
    EXPECT_TRUE(std::equal(alone.codes.rbegin(), alone.codes.rend(), rows.codes.rbegin()));
  }
};

// Of one vector a thread and of eight, by 128 threads and by 1024, and by numbers.
TEST_F(CudaE4m3RowsTest, NormsHaveTheBitsOfTwoKernels) {
  for (const Shape& shape : {Shape{1, 16}, Shape{300, 48}, Shape{7, 528}, Shape{3, 1040},
                             Shape{5, 2064}, Shape{2, 4096}, Shape{3, 4112}, Shape{2, 8192},
                             Shape{2, 12304}, Shape{1, 16384}, Shape{2, 16400}, Shape{2, 33024}}) {
    const auto count = static_cast<size_t>(shape.rows) * static_cast<size_t>(shape.width);
    ExpectNormsAlike(shape, Random(count, 3.0f), Random(static_cast<size_t>(shape.width)));
  }
}

// The last has more than stays in registers.
TEST_F(CudaE4m3RowsTest, GatedRowsHaveTheBitsOfTwoKernels) {
  for (const Shape& shape :
       {Shape{1, 16}, Shape{300, 48}, Shape{7, 528}, Shape{5, 2064}, Shape{3, 4096}, Shape{2, 4112},
        Shape{2, 11008}, Shape{2, 14336}, Shape{1, 28672}, Shape{2, 33808}}) {
    const auto count = static_cast<size_t>(shape.rows) * static_cast<size_t>(shape.width);
    ExpectGatedAlike(shape, RandomBf16(2 * count, 3.0f));
  }
}

// Rows of zeros, of numbers too small for a scale, and with numbers that are not finite, or become
// so: bf16 rounds the largest numbers of f32 to infinity.
TEST_F(CudaE4m3RowsTest, WhatIsNotFiniteHasTheBitsOfTwoKernels) {
  for (const int32_t width : {16, 1040, 33024}) {
    const Shape shape = {7, width};
    const auto row = static_cast<size_t>(width);
    const auto count = static_cast<size_t>(shape.rows) * row;
    std::vector<float> input = Random(count);
    std::fill_n(input.begin(), row, 0.0f);
    for (size_t i = row; i < 2 * row; ++i) input[i] *= 1e-38f;
    input[2 * row + 3] = kInfinity;
    input[3 * row + 5] = -kInfinity;
    input[4 * row + row - 1] = kNan;
    for (size_t i = 5 * row; i < 6 * row; ++i) input[i] *= 1e38f;
    std::vector<float> weight = Random(row);
    ExpectNormsAlike(shape, input, weight);
    weight[7] = 3.4e38f;
    ExpectNormsAlike(shape, input, weight);
    weight[9] = kNan;
    ExpectNormsAlike(shape, input, weight);
    std::vector<float> both = input;  // gates and ups
    both.insert(both.end(), input.begin(), input.end());
    ExpectGatedAlike(shape, ToBf16s(both));
  }
}

TEST_F(CudaE4m3RowsTest, NothingToDoStartsNothing) {
  RmsNormToE4m3(context(), {}, {});
  SiluMulToE4m3(context(), {}, {});
  EXPECT_TRUE(context().Synchronize().ok()) << context().status();
}

}  // namespace
}  // namespace baton
