#include <algorithm>
#include <cmath>
#include <cstring>

#include "absl/strings/str_cat.h"
#include "common/hash.h"
#include "engine/model/weight_source.h"

namespace baton {
namespace {

void StoreElement(float value, float* output) { *output = value; }
void StoreElement(float value, Bf16* output) { *output = ToBf16(value); }

// `source`: numbers of type S, at any address. One loop for each type, so that it is vectorised.
template <typename S, typename T, typename Widen>
void ConvertEach(const std::byte* source, int64_t columns, const Widen& widen, T* output) {
  for (int64_t i = 0; i < columns; ++i) {
    S stored;
    std::memcpy(&stored, source + static_cast<int64_t>(sizeof(stored)) * i, sizeof(stored));
    StoreElement(widen(stored), output + i);
  }
}

template <typename T>
void ConvertRow(const std::byte* source, WeightDtype dtype, int64_t columns, T* output) {
  switch (dtype) {
    case WeightDtype::kF32:
      ConvertEach<float>(
          source, columns, [](float value) { return value; }, output);
      return;
    case WeightDtype::kF16:
      ConvertEach<uint16_t>(
          source, columns, [](uint16_t half) { return HalfToFloat(half); }, output);
      return;
    case WeightDtype::kBf16:
      ConvertEach<Bf16>(
          source, columns, [](Bf16 value) { return ToFloat(value); }, output);
      return;
  }
}

}  // namespace

std::string_view WeightDtypeName(WeightDtype dtype) {
  switch (dtype) {
    case WeightDtype::kBf16:
      return "bf16";
    case WeightDtype::kF16:
      return "f16";
    case WeightDtype::kF32:
      return "f32";
  }
  return "unknown";
}

WeightTensor WeightTensor::Stored(const std::byte* data, WeightDtype dtype, int64_t columns) {
  WeightTensor tensor;
  tensor.data_ = data;
  tensor.dtype_ = dtype;
  tensor.columns_ = columns;
  return tensor;
}

WeightTensor WeightTensor::Random(const RandomTensor& random, int64_t columns) {
  WeightTensor tensor;
  tensor.random_ = random;
  tensor.columns_ = columns;
  return tensor;
}

template <typename T>
void WeightTensor::Read(int64_t row, T* output) const {
  if (data_ != nullptr) {
    const int64_t element_bytes = dtype_ == WeightDtype::kF32 ? 4 : 2;
    const std::byte* source = data_ + row * columns_ * element_bytes;
    if (dtype_ == WeightDtype::kBf16 && sizeof(T) == sizeof(Bf16)) {
      std::memcpy(static_cast<void*>(output), source, static_cast<size_t>(columns_) * sizeof(T));
    } else {
      ConvertRow(source, dtype_, columns_, output);
    }
    return;
  }
  RandomRow(row, output);
}

template <typename T>
void WeightTensor::RandomRow(int64_t row, T* output) const {
  const RandomTensor random = *random_;
  const uint64_t row_seed = RandomRowSeed(random, row);
  for (int64_t i = 0; i < columns_; i += kNumbersPerHash) {
    const uint64_t bits = RandomBits(row_seed, i);
    const auto count = static_cast<int>(std::min<int64_t>(kNumbersPerHash, columns_ - i));
    for (int j = 0; j < count; ++j) {
      StoreElement(ToFloat(RandomNumber(random, bits, j)), output + i + j);
    }
  }
}

void WeightTensor::ReadRow(int64_t row, float* output) const { Read(row, output); }
void WeightTensor::ReadRow(int64_t row, Bf16* output) const { Read(row, output); }

namespace {

class DummyWeights final : public WeightSource {
 public:
  explicit DummyWeights(uint64_t seed) : seed_(seed), fingerprint_(HashString("dummy", seed)) {}

  absl::StatusOr<WeightTensor> Get(const std::string& name, WeightRole role, int64_t rows,
                                   int64_t columns) override {
    const uint64_t tensor_seed = HashString(name, seed_);
    fingerprint_ = HashCombine(fingerprint_, tensor_seed);
    fingerprint_ = HashCombine(fingerprint_, static_cast<uint64_t>(rows));
    fingerprint_ = HashCombine(fingerprint_, static_cast<uint64_t>(columns));
    switch (role) {
      case WeightRole::kNorm:
        return WeightTensor::Random({tensor_seed, 1.0f, 0.1f}, columns);
      case WeightRole::kBias:
        return WeightTensor::Random({tensor_seed, 0.0f, 0.05f}, columns);
      case WeightRole::kMatrix:
        break;
    }
    // Variance 1 / columns: a unit-scale input gives a unit-scale output.
    const float radius = std::sqrt(3.0f / static_cast<float>(columns));
    return WeightTensor::Random({tensor_seed, 0.0f, radius}, columns);
  }

  absl::Status CheckAllUsed() const override { return absl::OkStatus(); }
  uint64_t Fingerprint(ComputePool* /*pool*/) const override { return fingerprint_; }
  std::string Identity() const override { return absl::StrCat("random weights, seed ", seed_); }
  std::string dtype_name() const override { return "bf16"; }

 private:
  const uint64_t seed_;
  uint64_t fingerprint_;
};

}  // namespace

std::unique_ptr<WeightSource> MakeDummyWeights(uint64_t seed) {
  return std::make_unique<DummyWeights>(seed);
}

}  // namespace baton
