// Numbers about samples.
#pragma once

#include <cstdint>
#include <span>
#include <vector>

namespace baton::load {

struct Distribution {
  int64_t count = 0;
  double mean = 0;
  double deviation = 0;  // of the samples, n - 1
  double min = 0;
  double p50 = 0;
  double p90 = 0;
  double p99 = 0;
  double max = 0;
};

// `percent` of 0 to 100 of ascending samples, by linear interpolation between closest ranks: what
// numpy.percentile does, and with it vLLM's benchmark. 0 for no samples.
double Percentile(std::span<const double> ascending, double percent);

// Sorts `samples`.
Distribution Describe(std::vector<double> samples);

// Mean of repeats with a two-sided 95 % confidence interval by Student's t.
struct Interval {
  double mean = 0;
  double half_width = 0;  // 0 for a single repeat: not known
};
Interval ConfidenceInterval(std::span<const double> repeats);

// Counts in bins whose edges are powers of two times 1, 1.5: for length histograms.
struct Bin {
  double low = 0;   // included
  double high = 0;  // not included
  int64_t count = 0;
};
std::vector<Bin> Histogram(std::span<const double> samples);

}  // namespace baton::load
