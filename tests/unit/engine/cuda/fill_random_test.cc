// Random weights made on the device are those of the host.
#include "engine/kernels/cuda/fill_random.h"

#include "tests/unit/engine/cuda/cuda_harness.h"

namespace baton {
namespace {

class CudaFillRandomTest : public CudaTest {};

constexpr Bf16 kUntouched{0x4711};

// Rows that lie `row_stride` apart, the rest untouched.
std::vector<Bf16> OnTheHost(const FillRandomArgs& args) {
  std::vector<Bf16> numbers(static_cast<size_t>(args.rows * args.row_stride), kUntouched);
  for (int64_t row = 0; row < args.rows; ++row) {
    const uint64_t row_seed = RandomRowSeed(args.tensor, args.first_row + row);
    for (int64_t column = 0; column < args.columns; ++column) {
      const uint64_t bits = RandomBits(row_seed, column / kNumbersPerHash * kNumbersPerHash);
      numbers[static_cast<size_t>(row * args.row_stride + column)] =
          RandomNumber(args.tensor, bits, static_cast<int>(column % kNumbersPerHash));
    }
  }
  return numbers;
}

TEST_F(CudaFillRandomTest, HasTheBitsOfTheHost) {
  // A center other than 0 shows whether a product and a sum were fused.
  for (const RandomTensor& tensor :
       {RandomTensor{7, 0.0f, 0.0271f}, RandomTensor{~uint64_t{0}, 1.0f, 0.1f}}) {
    for (const int64_t columns : {8, 40, 1024, 1032, 4096}) {
      for (const int64_t row_stride : {columns, 2 * columns}) {
        FillRandomArgs args{.row_stride = row_stride,
                            .tensor = tensor,
                            .first_row = 70000,
                            .rows = 11,
                            .columns = columns};
        const std::vector<Bf16> expected = OnTheHost(args);
        DeviceArray<Bf16> output = OnDevice(std::vector<Bf16>(expected.size(), kUntouched));
        args.output = output.data();
        FillRandom(context(), args);
        EXPECT_EQ(OnHost(output), expected) << columns << " columns, " << row_stride << " apart";
      }
    }
  }
}

TEST_F(CudaFillRandomTest, NoRowsAreNothingToDo) {
  FillRandom(context(), {.row_stride = 8, .columns = 8});
  EXPECT_TRUE(context().Synchronize().ok());
}

}  // namespace
}  // namespace baton
