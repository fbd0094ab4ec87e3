#include "bench/gpu_roofline/row.h"

#include <algorithm>

namespace baton::roofline {

std::string Label(const Row& row) {
  return row.variant.empty() ? row.name : row.name + ", " + row.variant;
}

double Quantile(std::vector<double> samples, double share) {
  if (samples.empty()) return 0;
  std::ranges::sort(samples);
  const double at = share * static_cast<double>(samples.size() - 1);
  const auto below = static_cast<size_t>(at);
  const size_t above = std::min(below + 1, samples.size() - 1);
  const double between = at - static_cast<double>(below);
  return samples[below] + between * (samples[above] - samples[below]);
}

double MedianMs(const Row& row) { return Quantile(row.samples_ms, 0.5); }

double Spread(const Row& row) {
  const double median = MedianMs(row);
  if (median <= 0) return 0;
  return (Quantile(row.samples_ms, 0.75) - Quantile(row.samples_ms, 0.25)) / median;
}

Ceilings MeasuredCeilings(const std::vector<Part>& parts) {
  Ceilings ceilings;
  for (const Part& part : parts) {
    if (part.name != kCeilingsPart) continue;
    for (const Row& row : part.rows) {
      const double seconds = 1e-3 * MedianMs(row);
      if (seconds <= 0) continue;
      if (row.name == kCopyRow) ceilings.bytes_per_s = row.work.bytes / seconds;
      if (row.name == kProductRow) ceilings.flop_per_s = row.work.flop / seconds;
      if (row.name == kUploadRow) ceilings.bus_bytes_per_s = row.work.bus_bytes / seconds;
    }
  }
  return ceilings;
}

}  // namespace baton::roofline
