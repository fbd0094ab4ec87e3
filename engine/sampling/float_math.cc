#include "engine/sampling/float_math.h"

#include <algorithm>
#include <limits>

namespace baton {

namespace {
constexpr size_t kLanes = 8;
constexpr float kInfinity = std::numeric_limits<float>::infinity();
}  // namespace

RowScan ScanRow(std::span<const float> row) {
  float max[kLanes];
  std::fill_n(max, kLanes, -kInfinity);
  uint32_t bad[kLanes] = {};
  const size_t whole = row.size() / kLanes * kLanes;
  for (size_t i = 0; i < whole; i += kLanes) {
    for (size_t lane = 0; lane < kLanes; ++lane) {
      const float value = row[i + lane];
      max[lane] = value > max[lane] ? value : max[lane];
      bad[lane] |= static_cast<uint32_t>(!(value < kInfinity));
    }
  }
  for (size_t i = whole; i < row.size(); ++i) {
    max[0] = row[i] > max[0] ? row[i] : max[0];
    bad[0] |= static_cast<uint32_t>(!(row[i] < kInfinity));
  }
  RowScan scan{.max = -kInfinity, .valid = true};
  for (size_t lane = 0; lane < kLanes; ++lane) {
    scan.max = std::max(scan.max, max[lane]);
    scan.valid &= bad[lane] == 0;
  }
  scan.valid &= scan.max > -kInfinity;
  return scan;
}

int32_t IndexOf(std::span<const float> row, float value) {
  return static_cast<int32_t>(std::ranges::find(row, value) - row.begin());
}

void ExpRow(std::span<const float> row, float max, float scale, std::span<float> weights) {
  const float* __restrict in = row.data();
  float* __restrict out = weights.data();
  const size_t size = row.size();
  for (size_t i = 0; i < size; ++i) out[i] = ExpNonPositive((in[i] - max) * scale);
}

double SumRow(std::span<const float> row) {
  double sums[kLanes] = {};
  const size_t whole = row.size() / kLanes * kLanes;
  for (size_t i = 0; i < whole; i += kLanes) {
    for (size_t lane = 0; lane < kLanes; ++lane) sums[lane] += double{row[i + lane]};
  }
  double total = 0;
  for (const double sum : sums) total += sum;
  for (size_t i = whole; i < row.size(); ++i) total += double{row[i]};
  return total;
}

}  // namespace baton
