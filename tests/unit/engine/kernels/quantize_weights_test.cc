// Weights rounded to int8 and int4.
#include "engine/kernels/quantize_weights.h"

#include <gtest/gtest.h>

#include <cmath>
#include <cstring>
#include <limits>
#include <random>
#include <string>
#include <vector>

#include "tests/unit/engine/kernels/quantize_reference.h"

namespace baton {
namespace {

struct Kind {
  const char* name;
  void (*quantize)(const QuantizeGroupArgs& args);
  QuantGroup (*reference)(std::span<const float> values);
  int32_t bias;
  size_t per_step;  // inputs that share a step's bytes
};
constexpr Kind kInt8 = {"int8", QuantizeGroupToInt8, ReferenceInt8, kInt8Bias, 4};
constexpr Kind kInt4 = {"int4", QuantizeGroupToInt4, ReferenceInt4, kInt4Bias, 8};

// A panel of `columns` columns, of which rows.size() exist.
std::vector<QuantGroup> QuantizePanel(const Kind& kind, size_t columns,
                                      const std::vector<std::vector<float>>& rows) {
  std::vector<Bf16> scales(columns, Bf16{0});
  std::vector<uint8_t> levels(kQuantGroup / kind.per_step * columns * 4);
  std::vector<const float*> pointers;
  for (const std::vector<float>& row : rows) pointers.push_back(row.data());
  kind.quantize({.rows = pointers.data(),
                 .num_rows = rows.size(),
                 .count = rows[0].size(),
                 .columns = columns,
                 .scales = scales.data(),
                 .levels = levels.data()});
  std::vector<QuantGroup> groups(columns);
  for (size_t column = 0; column < columns; ++column) {
    groups[column].scale = scales[column];
    for (size_t i = 0; i < kQuantGroup; ++i) {
      const uint8_t byte = levels[(i / kind.per_step * columns + column) * 4 + i % 4];
      const bool high = i % kind.per_step >= 4;
      const int mask = kind.per_step == 8 ? 15 : 255;
      groups[column].levels[i] = static_cast<uint8_t>((byte >> (high ? 4 : 0)) & mask);
    }
  }
  return groups;
}

QuantGroup QuantizeOne(const Kind& kind, const std::vector<float>& values) {
  return QuantizePanel(kind, kQuantLanes, {values})[0];
}

// Normal numbers and kinds of groups that round in their own way.
std::vector<float> MakeWeights(size_t count, std::mt19937_64* random) {
  std::normal_distribution<float> normal;
  std::vector<float> values(count);
  const uint64_t shape = (*random)() % 8;
  for (float& value : values) {
    value = normal(*random);
    if (shape == 0) value *= std::exp(8 * normal(*random));
    if (shape == 1) value = 0;
    if (shape == 2) value = std::ldexp(value, -134);         // bf16 has hardly a bit for it
    if (shape == 3) value = std::round(value * 2) * 0.5f;    // ties
    if (shape == 4) value = std::ldexp(value, 100);          // squares overflow
    if (shape == 5) value = ToFloat(ToBf16(value * 0.02f));  // as in checkpoints
  }
  return values;
}

TEST(QuantizeWeights, HasTheBitsOfRoundingOneNumberAfterTheOther) {
  std::mt19937_64 random(19);
  for (const Kind& kind : {kInt8, kInt4}) {
    for (int round = 0; round < 3000; ++round) {
      const size_t columns = kQuantLanes * (1 + random() % 4);
      const size_t present = 1 + random() % columns;
      const size_t count = random() % 2 == 0 ? kQuantGroup : 1 + random() % kQuantGroup;
      std::vector<std::vector<float>> rows(present);
      for (std::vector<float>& row : rows) row = MakeWeights(count, &random);
      const std::vector<QuantGroup> groups = QuantizePanel(kind, columns, rows);
      for (size_t column = 0; column < columns; ++column) {
        const QuantGroup expected = column < present ? kind.reference(rows[column]) : QuantGroup{};
        ASSERT_EQ(std::memcmp(&groups[column], &expected, sizeof(expected)), 0)
            << kind.name << " round " << round << " column " << column << " of " << present;
      }
    }
  }
}

double MeanSquaredError(const Kind& kind) {
  std::mt19937_64 random(3);
  std::normal_distribution<float> normal;
  double error = 0;
  constexpr int kGroups = 2000;
  for (int i = 0; i < kGroups; ++i) {
    std::vector<float> values(kQuantGroup);
    for (float& value : values) value = normal(random);
    const QuantGroup group = QuantizeOne(kind, values);
    for (size_t j = 0; j < values.size(); ++j) {
      const double back = double{ToFloat(group.scale)} * (group.levels[j] - kind.bias);
      error += (back - values[j]) * (back - values[j]);
    }
  }
  return error / (kGroups * kQuantGroup);
}

TEST(QuantizeWeights, LosesLittleOfNormalNumbers) {
  // Evenly spaced levels up to the largest of 32, some 2.1 standard deviations away, leave
  // (2.1 / 127)^2 / 12 with int8; int4 has 16 of them. llama.cpp's Q8_0 leaves 2.9e-5, Q4_0 7.4e-3.
  EXPECT_LT(MeanSquaredError(kInt8), 2.4e-5);
  EXPECT_LT(MeanSquaredError(kInt4), 6.7e-3);
}

TEST(QuantizeWeights, KeepsZerosAndWhatIsMissing) {
  for (const Kind& kind : {kInt8, kInt4}) {
    const QuantGroup zeros = QuantizeOne(kind, std::vector<float>(kQuantGroup, 0.0f));
    EXPECT_EQ(ToFloat(zeros.scale), 0);
    const QuantGroup three = QuantizeOne(kind, {1.0f, -1.0f, 0.0f});
    for (size_t i = 2; i < kQuantGroup; ++i) EXPECT_EQ(three.levels[i], kind.bias) << i;
  }
}

TEST(QuantizeWeights, Int8IsNoWorseThanTheNearestOf127Levels) {
  std::mt19937_64 random(11);
  std::normal_distribution<float> normal;
  for (int i = 0; i < 1000; ++i) {
    std::vector<float> values(kQuantGroup);
    for (float& value : values) value = normal(random) * std::exp(normal(random));
    const QuantGroup group = QuantizeOne(kInt8, values);
    const float step = ToFloat(group.scale);
    const float plain_step = ToFloat(ToBf16(std::abs(Peak(values)) / 127));
    double error = 0;
    double plain_error = 0;
    for (size_t j = 0; j < values.size(); ++j) {
      const float off = step * static_cast<float>(group.levels[j] - kInt8Bias) - values[j];
      ASSERT_LE(std::abs(off), 1.3f * std::abs(step));
      error += double{off} * off;
      const float plain_off = plain_step * std::nearbyint(values[j] / plain_step) - values[j];
      plain_error += double{plain_off} * plain_off;
    }
    ASSERT_LE(error, 1.0001 * plain_error);
  }
}

}  // namespace
}  // namespace baton
