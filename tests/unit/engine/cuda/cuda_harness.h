// Shared by the tests of CUDA ops: a context, arrays on the device, random numbers.
#pragma once

#include <gtest/gtest.h>

#include <cmath>
#include <memory>
#include <random>
#include <vector>

#include "engine/kernels/bf16.h"
#include "engine/kernels/cuda/context.h"
#include "engine/kernels/cuda/device_array.h"

namespace baton {

class CudaTest : public testing::Test {
 protected:
  void SetUp() override {
    absl::StatusOr<std::unique_ptr<CudaContext>> context = CudaContext::Create(0);
    if (!context.ok()) GTEST_SKIP() << context.status();
    context_ = *std::move(context);
    context_->SetDependentLaunches(true);  // every kernel has to bear it
  }
  void TearDown() override {
    if (context_ == nullptr) return;
    EXPECT_TRUE(context_->Synchronize().ok()) << context_->status();
  }

  const CudaContext& context() const { return *context_; }

  std::vector<float> Random(size_t count, float scale = 1.0f) {
    std::normal_distribution<float> normal(0.0f, scale);
    std::vector<float> values(count);
    for (float& value : values) value = normal(random_);
    return values;
  }
  std::vector<Bf16> RandomBf16(size_t count, float scale = 1.0f) {
    return ToBf16s(Random(count, scale));
  }
  static std::vector<Bf16> ToBf16s(const std::vector<float>& values) {
    std::vector<Bf16> rounded(values.size());
    for (size_t i = 0; i < values.size(); ++i) rounded[i] = ToBf16(values[i]);
    return rounded;
  }

  template <typename T>
  DeviceArray<T> OnDevice(const std::vector<T>& values) {
    DeviceArray<T> array = OnDevice<T>(values.size());
    Upload(context(), values, &array);
    return array;
  }
  template <typename T>
  DeviceArray<T> OnDevice(size_t size) {
    absl::StatusOr<DeviceArray<T>> array = DeviceArray<T>::Create(size);
    BATON_CHECK(array.ok()) << array.status();
    return *std::move(array);
  }
  template <typename T>
  std::vector<T> OnHost(const DeviceArray<T>& array) {
    std::vector<T> values(array.size());
    Download(context(), array, values);
    BATON_CHECK_OK(context().Synchronize());
    return values;
  }

  // How far a result that is rounded to bf16 may lie from the exact one.
  static double Bf16Tolerance(double exact) { return std::abs(exact) * 0x1p-8 + 1e-6; }

  std::mt19937_64 random_{12345};

 private:
  std::unique_ptr<CudaContext> context_;
};

}  // namespace baton
