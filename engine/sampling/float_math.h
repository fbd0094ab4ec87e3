// Arithmetic over rows of logits whose result is the same on every machine: fixed order of
// additions, no library function whose last bit depends on the processor.
#pragma once

#include <bit>
#include <cstdint>
#include <span>

namespace baton {

// e^x for x <= 0, relative error below 3e-7; 0 for x <= -87. Range reduction to
// [-ln2/2, ln2/2] and the degree-6 Taylor polynomial, plain multiplications and additions.
// constexpr lets device code call it; it must be compiled without contraction there too.
constexpr float ExpNonPositive(float x) {
  constexpr float kLog2E = 1.44269504f;
  constexpr float kLn2High = 0.693359375f;
  constexpr float kLn2Low = -2.12194440e-4f;
  constexpr float kRoundToInteger = 12582912.0f;  // 1.5 * 2^23
  const float clamped = x > -87.0f ? x : -87.0f;
  const float n = (clamped * kLog2E + kRoundToInteger) - kRoundToInteger;
  const float r = (clamped - n * kLn2High) - n * kLn2Low;
  float p = 1.0f / 720;
  p = p * r + 1.0f / 120;
  p = p * r + 1.0f / 24;
  p = p * r + 1.0f / 6;
  p = p * r + 0.5f;
  p = p * r + 1.0f;
  p = p * r + 1.0f;
  const float scale = std::bit_cast<float>((static_cast<int32_t>(n) + 127) << 23);
  return x > -87.0f ? p * scale : 0.0f;
}

struct RowScan {
  float max = 0;
  bool valid = false;  // no NaN, no +inf, and not all -inf
};
RowScan ScanRow(std::span<const float> row);

// The lowest index that holds `value`. REQUIRES: there is one.
int32_t IndexOf(std::span<const float> row, float value);

// weights[i] = e^((row[i] - max) * scale). Same length.
void ExpRow(std::span<const float> row, float max, float scale, std::span<float> weights);

// In 8 interleaved partial sums, added in order.
double SumRow(std::span<const float> row);

}  // namespace baton
