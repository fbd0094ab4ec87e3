#include "bench/load/core/stats.h"

#include <algorithm>
#include <cmath>
#include <iterator>
#include <numeric>

namespace baton::load {

double Percentile(std::span<const double> ascending, double percent) {
  if (ascending.empty()) return 0;
  const double rank = percent / 100 * static_cast<double>(ascending.size() - 1);
  const auto below = static_cast<size_t>(rank);
  if (below + 1 >= ascending.size()) return ascending.back();
  const double part = rank - static_cast<double>(below);
  return ascending[below] + part * (ascending[below + 1] - ascending[below]);
}

Distribution Describe(std::vector<double> samples) {
  Distribution result;
  result.count = static_cast<int64_t>(samples.size());
  if (samples.empty()) return result;
  std::sort(samples.begin(), samples.end());
  const auto n = static_cast<double>(samples.size());
  result.mean = std::accumulate(samples.begin(), samples.end(), 0.0) / n;
  if (samples.size() > 1) {
    double squares = 0;
    for (const double sample : samples) squares += (sample - result.mean) * (sample - result.mean);
    result.deviation = std::sqrt(squares / (n - 1));
  }
  result.min = samples.front();
  result.p50 = Percentile(samples, 50);
  result.p90 = Percentile(samples, 90);
  result.p99 = Percentile(samples, 99);
  result.max = samples.back();
  return result;
}

Interval ConfidenceInterval(std::span<const double> repeats) {
  // t of 0.975 for 1 to 30 degrees of freedom.
  constexpr double kT[] = {12.706, 4.303, 3.182, 2.776, 2.571, 2.447, 2.365, 2.306, 2.262, 2.228,
                           2.201,  2.179, 2.160, 2.145, 2.131, 2.120, 2.110, 2.101, 2.093, 2.086,
                           2.080,  2.074, 2.069, 2.064, 2.060, 2.056, 2.052, 2.048, 2.045, 2.042};
  const Distribution all = Describe({repeats.begin(), repeats.end()});
  Interval interval{all.mean, 0};
  if (all.count < 2) return interval;
  const auto freedom = static_cast<size_t>(all.count - 1);
  const double t = freedom <= std::size(kT) ? kT[freedom - 1] : 1.96;
  interval.half_width = t * all.deviation / std::sqrt(static_cast<double>(all.count));
  return interval;
}

std::vector<Bin> Histogram(std::span<const double> samples) {
  std::vector<Bin> bins;
  if (samples.empty()) return bins;
  const auto [least, most] = std::minmax_element(samples.begin(), samples.end());
  for (double power = 1; power <= *most; power *= 2) {
    for (const double low : {power, power * 1.5}) {
      const double high = low == power ? power * 1.5 : power * 2;
      if (high <= *least || low > *most) continue;
      bins.push_back({low, high, 0});
    }
  }
  for (const double sample : samples) {
    const auto bin = std::find_if(bins.begin(), bins.end(),
                                  [&](const Bin& candidate) { return sample < candidate.high; });
    if (bin != bins.end()) ++bin->count;
  }
  return bins;
}

}  // namespace baton::load
