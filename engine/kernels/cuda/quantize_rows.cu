#include "engine/kernels/cuda/quantize_rows.h"

#include "engine/kernels/cuda/e4m3_rows.h"
#include "engine/kernels/cuda/launch.h"

namespace baton {

namespace {

constexpr int kThreads = 256;
constexpr int kNumbers = 8;  // of one vector

// One block a row, which is read twice: the second time from a cache.
__global__ void __launch_bounds__(kThreads) QuantizeRow(QuantizeRowsArgs args) {
  WaitForPreviousGrid();
  const int64_t row = blockIdx.x;
  const Bf16* input = args.input + row * args.width;
  uint8_t* output = args.output + row * args.width;
  const int first = static_cast<int>(threadIdx.x) * kNumbers;
  uint32_t peak = 0;
  for (int at = first; at < args.width; at += kThreads * kNumbers) {
    peak = PeakOf(peak, *reinterpret_cast<const uint4*>(input + at));
  }
  const float inverse = ScaleRow(peak, args.scales + row);
  for (int at = first; at < args.width; at += kThreads * kNumbers) {
    *reinterpret_cast<uint2*>(output + at) =
        EightE4m3(*reinterpret_cast<const uint4*>(input + at), inverse);
  }
}

}  // namespace

void QuantizeRows(const CudaContext& context, const QuantizeRowsArgs& args) {
  Launch(context, "quantize_rows",
         {.grid = dim3(static_cast<unsigned>(args.rows)), .block = kThreads}, QuantizeRow, args);
}

}  // namespace baton
