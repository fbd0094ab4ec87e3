#include "bench/sweep/core/goodput_curve.h"

#include <algorithm>
#include <limits>
#include <map>
#include <numeric>
#include <utility>

#include "bench/load/core/random.h"
#include "bench/load/core/stats.h"
#include "common/check.h"

namespace baton::sweep {
namespace {

constexpr size_t kBlock = 8;  // requests drawn together
constexpr double kInfinity = std::numeric_limits<double>::infinity();

double Ratio(double over, double under) {
  if (under > 0) return over / under;
  return over > 0 ? kInfinity : 0;
}

Observation Resample(const Observation& observed, load::Rng& rng) {
  Observation drawn = observed;
  const size_t count = observed.good.size();
  for (size_t i = 0; i < count; i += kBlock) {
    const auto from = static_cast<size_t>(rng.UniformInt(0, static_cast<int64_t>(count) - 1));
    for (size_t k = 0; k < kBlock && i + k < count; ++k) {
      drawn.good[i + k] = observed.good[(from + k) % count];
    }
  }
  return drawn;
}

}  // namespace

double Observation::share() const {
  if (good.empty()) return 0;
  return std::accumulate(good.begin(), good.end(), 0.0) / static_cast<double>(good.size());
}

GoodputCurve::GoodputCurve(std::span<const Observation> observations) {
  std::map<double, Point> by_rate;
  for (const Observation& observed : observations) {
    if (observed.good.empty()) continue;
    Point& point = by_rate[observed.rate_per_s];
    const auto requests = static_cast<double>(observed.good.size());
    point.rate_per_s = observed.rate_per_s;
    point.share += observed.share() * requests;  // a sum until all are in
    point.requests += requests;
  }
  // Blocks of neighbouring points that share one value.
  struct Block {
    size_t first;
    double good;
    double requests;
    double share() const { return good / requests; }
  };
  std::vector<Block> blocks;
  for (const auto& [rate, point] : by_rate) {
    blocks.push_back({points_.size(), point.share, point.requests});
    points_.push_back(point);
    while (blocks.size() > 1 && blocks.back().share() > blocks[blocks.size() - 2].share()) {
      const Block last = blocks.back();
      blocks.pop_back();
      blocks.back().good += last.good;
      blocks.back().requests += last.requests;
    }
  }
  for (size_t b = 0; b < blocks.size(); ++b) {
    const size_t end = b + 1 < blocks.size() ? blocks[b + 1].first : points_.size();
    for (size_t i = blocks[b].first; i < end; ++i) points_[i].share = blocks[b].share();
  }
}

double GoodputCurve::Crossing(double level) const {
  const auto below = std::find_if(points_.begin(), points_.end(),
                                  [&](const Point& point) { return point.share < level; });
  if (below == points_.begin()) return 0;
  const Point& before = *(below - 1);
  if (below == points_.end()) return before.rate_per_s;
  const double part = (before.share - level) / (before.share - below->share);
  return before.rate_per_s + part * (below->rate_per_s - before.rate_per_s);
}

bool GoodputCurve::AllReach(double level) const {
  return !points_.empty() && points_.back().share >= level;
}

std::vector<double> ResampleCrossings(std::span<const Observation> observations, double level,
                                      uint64_t seed) {
  std::vector<double> crossings;
  crossings.reserve(kResamples);
  load::Rng rng(seed, /*stream=*/0);
  std::vector<Observation> drawn(observations.size());
  for (int i = 0; i < kResamples; ++i) {
    for (size_t k = 0; k < observations.size(); ++k) {
      drawn[k] = observations[k].good.empty() ? observations[k] : Resample(observations[k], rng);
    }
    crossings.push_back(GoodputCurve(drawn).Crossing(level));
  }
  return crossings;
}

Estimate WithInterval(double value, std::vector<double> resamples) {
  if (resamples.empty()) return {value, value, value};
  std::sort(resamples.begin(), resamples.end());
  // Ranks, not interpolation: a resample may be infinite.
  const auto rank = [&](double share) {
    return resamples[static_cast<size_t>(share * static_cast<double>(resamples.size() - 1))];
  };
  return {value, std::min(value, rank(0.025)), std::max(value, rank(0.975))};
}

Estimate RatioOf(double over, double under, std::span<const double> over_resamples,
                 std::span<const double> under_resamples) {
  BATON_CHECK(over_resamples.size() == under_resamples.size());
  std::vector<double> ratios;
  ratios.reserve(over_resamples.size());
  for (size_t i = 0; i < over_resamples.size(); ++i) {
    ratios.push_back(Ratio(over_resamples[i], under_resamples[i]));
  }
  return WithInterval(Ratio(over, under), std::move(ratios));
}

}  // namespace baton::sweep
