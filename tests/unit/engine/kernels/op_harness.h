// Shared by the op tests: one table of kernels, a pool, and conversions of its data types.
#pragma once

#include <gtest/gtest.h>

#include <algorithm>
#include <cmath>
#include <cstring>
#include <memory>
#include <random>
#include <string>
#include <vector>

#include "common/kv_layout.h"
#include "engine/kernels/aligned_buffer.h"
#include "engine/kernels/kernel_table.h"
#include "engine/kernels/linear.h"

namespace baton {

struct TableChoice {
  Isa isa = Isa::kAvx2;
  bool f32 = false;
};

inline std::vector<TableChoice> AllTables() {
  return {{Isa::kAvx2, false},
          {Isa::kAvx2, true},
          {Isa::kAvx512, false},
          {Isa::kAvx512, true},
          {Isa::kAvx512Bf16, false}};
}

inline std::string TableName(const testing::TestParamInfo<TableChoice>& tested) {
  std::string name(IsaName(tested.param.isa));
  std::replace(name.begin(), name.end(), '-', '_');
  return name + (tested.param.f32 ? "_f32" : "_bf16_weights");
}

class OpTest : public testing::TestWithParam<TableChoice> {
 protected:
  void SetUp() override {
    if (GetParam().isa > *BestIsa()) GTEST_SKIP() << "this CPU lacks the instructions";
  }

  const KernelTable& table() const { return GetKernels(GetParam().isa, GetParam().f32); }
  bool bf16_activations() const { return table().activation == ActivationDtype::kBf16; }
  // Of a cache that is not int8.
  KvDtype cache_dtype() const { return GetParam().f32 ? KvDtype::kF32 : KvDtype::kBf16; }
  OpContext context(int threads = 1) {
    auto& pool = pools_[threads - 1];
    if (pool == nullptr) pool = *ComputePool::Create(threads, {});
    return {table(), *pool};
  }

  std::vector<float> Random(size_t count, float scale = 1.0f) {
    std::normal_distribution<float> normal(0.0f, scale);
    std::vector<float> values(count);
    for (float& value : values) value = normal(random_);
    return values;
  }
  // Numbers that the table's weights and cache hold exactly.
  std::vector<float> RandomWeights(size_t count, float scale = 1.0f) {
    std::vector<float> values = Random(count, scale);
    if (!GetParam().f32) {
      for (float& value : values) value = ToFloat(ToBf16(value));
    }
    return values;
  }
  // Numbers that the activation dtype holds exactly.
  std::vector<float> RandomActivations(size_t count) {
    std::vector<float> values = Random(count);
    if (bf16_activations()) {
      for (float& value : values) value = ToFloat(ToBf16(value));
    }
    return values;
  }

  AlignedBuffer ToActivations(const std::vector<float>& values) {
    AlignedBuffer buffer(values.size() * static_cast<size_t>(ActivationBytes(table().activation)));
    for (size_t i = 0; i < values.size(); ++i) {
      if (bf16_activations()) {
        buffer.As<Bf16>()[i] = ToBf16(values[i]);
      } else {
        buffer.As<float>()[i] = values[i];
      }
    }
    return buffer;
  }
  float Activation(const AlignedBuffer& buffer, size_t i) {
    return bf16_activations() ? ToFloat(buffer.As<Bf16>()[i]) : buffer.As<float>()[i];
  }

  PackedMatrix Pack(const std::vector<float>& weights, int32_t n, int32_t k) {
    return PackAs(table().pack.element, weights, n, k);
  }
  PackedMatrix PackAs(WeightElement element, const std::vector<float>& weights, int32_t n,
                      int32_t k) {
    PackedMatrix matrix(n, k, table().PackOf(element));
    const int32_t width = table().pack.panel_columns;
    for (int32_t panel = 0; panel < matrix.num_panels(); ++panel) {
      const int32_t rows = std::min(width, n - panel * width);
      std::vector<float> f32(weights.begin() + int64_t{panel} * width * k,
                             weights.begin() + (int64_t{panel} * width + rows) * k);
      std::vector<Bf16> bf16(f32.size());
      std::transform(f32.begin(), f32.end(), bf16.begin(), [](float x) { return ToBf16(x); });
      std::vector<const float*> f32_rows;
      std::vector<const Bf16*> bf16_rows;
      for (int32_t row = 0; row < rows; ++row) {
        f32_rows.push_back(f32.data() + int64_t{row} * k);
        bf16_rows.push_back(bf16.data() + int64_t{row} * k);
      }
      if (element != WeightElement::kBf16) {
        matrix.PackPanel(panel, f32_rows);
      } else {
        matrix.PackPanel(panel, bf16_rows);
      }
    }
    return matrix;
  }

  // How far a result that is stored as an activation may lie from the exact one.
  double ActivationTolerance(double exact) const {
    return bf16_activations() ? std::abs(exact) * 0x1p-8 + 1e-6 : std::abs(exact) * 1e-5 + 1e-6;
  }

  std::mt19937_64 random_{12345};

 private:
  std::unique_ptr<ComputePool> pools_[8];
};

}  // namespace baton
