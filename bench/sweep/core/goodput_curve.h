// The share of good requests over the rate, from runs at several rates, and the rate at which it
// crosses a level. Pure.
#pragma once

#include <cstdint>
#include <span>
#include <vector>

namespace baton::sweep {

// One run at one rate.
struct Observation {
  double rate_per_s = 0;  // offered
  uint64_t seed = 0;
  std::vector<unsigned char> good;  // [requests] 1: good; in the order in which they were sent

  double share() const;  // of good requests; 0 for none
};

// Good requests by rate, smoothed to never rise with it (least squares weighted by requests: pool
// adjacent violators). Runs at one rate count as one point.
class GoodputCurve {
 public:
  explicit GoodputCurve(std::span<const Observation> observations);

  struct Point {
    double rate_per_s = 0;
    double share = 0;  // smoothed
    double requests = 0;
  };
  const std::vector<Point>& points() const { return points_; }  // ascending by rate

  // The largest rate with at least `level` good, interpolated in a line between the points on each
  // side. 0 when no point reaches it; the largest measured rate when all do.
  double Crossing(double level) const;
  // All points reach `level`: the crossing is a lower bound.
  bool AllReach(double level) const;

 private:
  std::vector<Point> points_;
};

// A figure with a 95 % confidence interval.
struct Estimate {
  double value = 0;
  double low = 0;
  double high = 0;
};

// Crossing rates of resampled observations, `kResamples` of them: each run's requests are drawn
// anew in blocks of neighbours, because misses come in bursts. The same seed gives the same draws.
inline constexpr int kResamples = 500;
std::vector<double> ResampleCrossings(std::span<const Observation> observations, double level,
                                      uint64_t seed);

// `value` with the 2.5th and 97.5th percentile of `resamples`.
Estimate WithInterval(double value, std::vector<double> resamples);

// over / under, and its interval from pairs of resamples. Infinite when `under` is 0, and 0 when
// both are.
Estimate RatioOf(double over, double under, std::span<const double> over_resamples,
                 std::span<const double> under_resamples);

}  // namespace baton::sweep
