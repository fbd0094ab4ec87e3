#include "engine/kernels/cuda/matrix.h"

#include <algorithm>
#include <vector>

#include "absl/strings/str_cat.h"
#include "common/check.h"
#include "engine/kernels/cuda/quantized_weights.h"

namespace baton {
namespace {

constexpr int32_t kSizeStep = 8;
constexpr int32_t kFp8SizeStep = 16;

}  // namespace

absl::StatusOr<CudaMatrix> CudaMatrix::Create(int32_t n, int32_t k, WeightElement element) {
  BATON_CHECK(element != WeightElement::kF32);
  const int32_t step = element == WeightElement::kFp8 ? kFp8SizeStep : kSizeStep;
  if (n <= 0 || k <= 0 || n % step != 0 || k % step != 0) {
    return absl::InvalidArgumentError(absl::StrCat(
        "a matrix of ", n, " x ", k, " on the device: multiples of ", step, " are allowed"));
  }
  CudaMatrix matrix;
  matrix.n_ = n;
  matrix.k_ = k;
  matrix.element_ = element;
  const size_t numbers = static_cast<size_t>(n) * static_cast<size_t>(k);
  if (IsQuantized(element)) {
    const int64_t bytes = NumQuantTiles(n) * QuantTileBytes(element, k);
    ASSIGN_OR_RETURN(matrix.packed_, DeviceArray<std::byte>::Create(static_cast<size_t>(bytes)));
  } else if (element == WeightElement::kFp8) {
    ASSIGN_OR_RETURN(matrix.packed_, DeviceArray<std::byte>::Create(numbers));
    ASSIGN_OR_RETURN(matrix.scales_, DeviceArray<float>::Create(static_cast<size_t>(n)));
  } else {
    ASSIGN_OR_RETURN(matrix.weights_, DeviceArray<Bf16>::Create(numbers));
  }
  return matrix;
}

absl::Status CudaMatrix::SetBias(const CudaContext& context, std::span<const float> bias) {
  BATON_CHECK(bias.size() == static_cast<size_t>(n_)) << bias.size() << "for" << n_;
  std::vector<Bf16> rounded(bias.size());
  std::ranges::transform(bias, rounded.begin(), [](float x) { return ToBf16(x); });
  ASSIGN_OR_RETURN(bias_, DeviceArray<float>::Create(bias.size()));
  ASSIGN_OR_RETURN(rounded_bias_, DeviceArray<Bf16>::Create(bias.size()));
  Upload(context, bias, &bias_);
  Upload(context, rounded, &rounded_bias_);
  return context.status();
}

}  // namespace baton
