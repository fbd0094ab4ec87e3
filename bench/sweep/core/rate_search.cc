#include "bench/sweep/core/rate_search.h"

#include <algorithm>
#include <cmath>

namespace baton::sweep {

std::optional<double> NextRate(std::span<const Observation> observations, double level,
                               const SearchOptions& options) {
  const GoodputCurve curve(observations);
  if (curve.points().empty()) return options.first_rate_per_s;
  const auto below =
      std::find_if(curve.points().begin(), curve.points().end(),
                   [&](const GoodputCurve::Point& point) { return point.share < level; });
  if (below == curve.points().end()) {
    const double most = curve.points().back().rate_per_s;
    if (most >= options.most_rate_per_s) return std::nullopt;
    return std::min(most * 2, options.most_rate_per_s);
  }
  if (below == curve.points().begin()) {
    if (below->rate_per_s <= options.least_rate_per_s) return std::nullopt;
    return std::max(below->rate_per_s / 2, options.least_rate_per_s);
  }
  const double low = (below - 1)->rate_per_s;
  if (below->rate_per_s <= low * (1 + options.tolerance)) return std::nullopt;
  return std::sqrt(low * below->rate_per_s);
}

Bracket BracketOf(std::span<const Observation> observations, double level) {
  const GoodputCurve curve(observations);
  const auto& points = curve.points();
  if (points.empty()) return {};
  const auto below =
      std::find_if(points.begin(), points.end(),
                   [&](const GoodputCurve::Point& point) { return point.share < level; });
  if (below == points.end()) return {points.back().rate_per_s, points.back().rate_per_s};
  if (below == points.begin()) return {below->rate_per_s, below->rate_per_s};
  return {(below - 1)->rate_per_s, below->rate_per_s};
}

}  // namespace baton::sweep
