#include "engine/sampling/float_math.h"

#include <algorithm>
#include <limits>

// Each loop is compiled twice, for what every x86-64 has and for AVX2: the additions are the same,
// in the same order, and nothing is contracted, so the bits are the same too.
#define BATON_ROW_LOOP [[gnu::always_inline]] inline
#define BATON_AVX2 [[gnu::target("avx2")]]

namespace baton {

namespace {
constexpr size_t kLanes = 8;
constexpr size_t kScanLanes = 32;  // for a maximum, unlike a sum, any number gives the same
constexpr size_t kFindChunk = 64;
constexpr float kInfinity = std::numeric_limits<float>::infinity();

bool HasAvx2() {
  static const bool has = __builtin_cpu_supports("avx2") != 0;
  return has;
}

BATON_ROW_LOOP RowScan ScanRowLoop(const float* row, size_t size) {
  float max[kScanLanes];
  std::fill_n(max, kScanLanes, -kInfinity);
  uint32_t bad[kScanLanes] = {};
  const size_t whole = size / kScanLanes * kScanLanes;
  for (size_t i = 0; i < whole; i += kScanLanes) {
    for (size_t lane = 0; lane < kScanLanes; ++lane) {
      const float value = row[i + lane];
      max[lane] = value > max[lane] ? value : max[lane];
      bad[lane] |= static_cast<uint32_t>(!(value < kInfinity));
    }
  }
  for (size_t i = whole; i < size; ++i) {
    max[0] = row[i] > max[0] ? row[i] : max[0];
    bad[0] |= static_cast<uint32_t>(!(row[i] < kInfinity));
  }
  RowScan scan{.max = -kInfinity, .valid = true};
  for (size_t lane = 0; lane < kScanLanes; ++lane) {
    scan.max = max[lane] > scan.max ? max[lane] : scan.max;
    scan.valid &= bad[lane] == 0;
  }
  scan.valid &= scan.max > -kInfinity;
  return scan;
}

// The first chunk that holds `value`.
BATON_ROW_LOOP size_t FindChunkLoop(const float* row, size_t size, float value) {
  size_t chunk = 0;
  for (; chunk + kFindChunk <= size; chunk += kFindChunk) {
    uint32_t here = 0;
    for (size_t i = 0; i < kFindChunk; ++i) {
      here |= static_cast<uint32_t>(row[chunk + i] == value);
    }
    if (here != 0) break;
  }
  return chunk;
}

BATON_ROW_LOOP void ExpRowLoop(const float* __restrict in, size_t size, float max, float scale,
                               float* __restrict out) {
  for (size_t i = 0; i < size; ++i) out[i] = ExpNonPositive((in[i] - max) * scale);
}

BATON_ROW_LOOP double SumRowLoop(const float* row, size_t size) {
  double sums[kLanes] = {};
  const size_t whole = size / kLanes * kLanes;
  for (size_t i = 0; i < whole; i += kLanes) {
    for (size_t lane = 0; lane < kLanes; ++lane) sums[lane] += double{row[i + lane]};
  }
  double total = 0;
  for (const double sum : sums) total += sum;
  for (size_t i = whole; i < size; ++i) total += double{row[i]};
  return total;
}

BATON_AVX2 RowScan ScanRowAvx2(const float* row, size_t size) { return ScanRowLoop(row, size); }
BATON_AVX2 size_t FindChunkAvx2(const float* row, size_t size, float value) {
  return FindChunkLoop(row, size, value);
}
BATON_AVX2 void ExpRowAvx2(const float* in, size_t size, float max, float scale, float* out) {
  ExpRowLoop(in, size, max, scale, out);
}
BATON_AVX2 double SumRowAvx2(const float* row, size_t size) { return SumRowLoop(row, size); }

}  // namespace

RowScan ScanRow(std::span<const float> row) {
  return HasAvx2() ? ScanRowAvx2(row.data(), row.size()) : ScanRowLoop(row.data(), row.size());
}

int32_t IndexOf(std::span<const float> row, float value) {
  const size_t chunk = HasAvx2() ? FindChunkAvx2(row.data(), row.size(), value)
                                 : FindChunkLoop(row.data(), row.size(), value);
  const auto rest = row.subspan(chunk);
  return static_cast<int32_t>(chunk) +
         static_cast<int32_t>(std::ranges::find(rest, value) - rest.begin());
}

void ExpRow(std::span<const float> row, float max, float scale, std::span<float> weights) {
  if (HasAvx2()) {
    ExpRowAvx2(row.data(), row.size(), max, scale, weights.data());
  } else {
    ExpRowLoop(row.data(), row.size(), max, scale, weights.data());
  }
}

double SumRow(std::span<const float> row) {
  return HasAvx2() ? SumRowAvx2(row.data(), row.size()) : SumRowLoop(row.data(), row.size());
}

}  // namespace baton
