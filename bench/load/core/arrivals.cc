#include "bench/load/core/arrivals.h"

#include <cmath>
#include <functional>
#include <limits>

#include "absl/strings/str_format.h"
#include "common/check.h"

namespace baton::load {
namespace {

constexpr int64_t kMostRequests = 100'000'000;

absl::Status Check(const ArrivalSpec& spec, const RunLimit& limit) {
  const auto invalid = [](const std::string& message) {
    return absl::InvalidArgumentError(message);
  };
  if (spec.kind == ArrivalKind::kTrace) return invalid("a trace has its own arrival times");
  if (!(spec.rate_per_s > 0) || !std::isfinite(spec.rate_per_s)) {
    return invalid(absl::StrFormat("rate: %g requests/s; it must be above 0", spec.rate_per_s));
  }
  if (spec.kind == ArrivalKind::kGamma && !(spec.cv > 0)) {
    return invalid(absl::StrFormat("cv: %g; it must be above 0", spec.cv));
  }
  if (spec.kind == ArrivalKind::kRamp && !(spec.ramp_to_per_s > 0)) {
    return invalid(
        absl::StrFormat("ramp_to: %g requests/s; it must be above 0", spec.ramp_to_per_s));
  }
  if (spec.kind == ArrivalKind::kBurst &&
      (spec.burst_on <= absl::ZeroDuration() || spec.burst_off < absl::ZeroDuration())) {
    return invalid("burst_on must be above 0 and burst_off not below 0");
  }
  if (limit.max_requests <= 0 && limit.duration == absl::InfiniteDuration()) {
    return invalid("the run has no end: give a number of requests or a duration");
  }
  const double rate = std::max(spec.rate_per_s, spec.ramp_to_per_s);
  if (limit.max_requests <= 0 && absl::ToDoubleSeconds(limit.duration) * rate > kMostRequests) {
    return invalid("the run would have more than 100 million requests");
  }
  return absl::OkStatus();
}

// Both maps take the sum of arrivals that a unit-rate process has made to the time at which the
// process with a varying rate has made as many: the inverse of the integral of the rate.

// rate(t) = from + (to - from) t / length, and `to` after `length`.
double RampTime(double sum, double from, double to, double length_s) {
  const double at_end = (from + to) / 2 * length_s;
  if (sum >= at_end) return length_s + (sum - at_end) / to;
  const double slope = (to - from) / length_s;
  if (std::abs(slope) < 1e-12) return sum / from;
  // The positive root of slope/2 t² + from t - sum, in the form that does not cancel.
  return 2 * sum / (from + std::sqrt(from * from + 2 * slope * sum));
}

double BurstTime(double sum, double on_s, double off_s, double mean_rate) {
  const double per_turn = mean_rate * (on_s + off_s);
  const double turns = std::floor(sum / per_turn);
  return turns * (on_s + off_s) + (sum - turns * per_turn) / per_turn * on_s;
}

// The time of the arrival whose unit-rate sum is `sum`.
std::function<double(double)> TimeOf(const ArrivalSpec& spec, const RunLimit& limit) {
  const double rate = spec.rate_per_s;
  if (spec.kind == ArrivalKind::kRamp) {
    double length_s = absl::ToDoubleSeconds(limit.duration);
    if (limit.max_requests > 0) {
      const double by_count =
          2 * static_cast<double>(limit.max_requests) / (rate + spec.ramp_to_per_s);
      length_s = std::min(length_s, by_count);
    }
    return [rate, to = spec.ramp_to_per_s, length_s](double sum) {
      return RampTime(sum, rate, to, length_s);
    };
  }
  if (spec.kind == ArrivalKind::kBurst) {
    return [rate, on_s = absl::ToDoubleSeconds(spec.burst_on),
            off_s = absl::ToDoubleSeconds(spec.burst_off)](double sum) {
      return BurstTime(sum, on_s, off_s, rate);
    };
  }
  return [rate](double sum) { return sum / rate; };
}

double UnitGap(const ArrivalSpec& spec, Rng& rng) {
  switch (spec.kind) {
    case ArrivalKind::kConstant:
      return 1;
    case ArrivalKind::kGamma: {
      const double shape = 1 / (spec.cv * spec.cv);
      return rng.Gamma(shape) / shape;
    }
    default:
      return rng.Exponential();
  }
}

}  // namespace

absl::StatusOr<std::vector<absl::Duration>> MakeArrivals(const ArrivalSpec& spec,
                                                         const RunLimit& limit, Rng rng) {
  RETURN_IF_ERROR(Check(spec, limit));
  const std::function<double(double)> time_of = TimeOf(spec, limit);
  const auto most =
      static_cast<size_t>(limit.max_requests > 0 ? limit.max_requests : kMostRequests);
  std::vector<absl::Duration> arrivals;
  double sum = 0;
  while (arrivals.size() < most) {
    sum += UnitGap(spec, rng);
    const absl::Duration at = absl::Seconds(time_of(sum));
    if (at >= limit.duration) break;
    arrivals.push_back(at);
  }
  return arrivals;
}

std::string DescribeArrivals(const ArrivalSpec& spec) {
  switch (spec.kind) {
    case ArrivalKind::kPoisson:
      return absl::StrFormat("poisson at %.4g/s", spec.rate_per_s);
    case ArrivalKind::kGamma:
      return absl::StrFormat("gamma at %.4g/s, CV %.3g", spec.rate_per_s, spec.cv);
    case ArrivalKind::kConstant:
      return absl::StrFormat("constant at %.4g/s", spec.rate_per_s);
    case ArrivalKind::kRamp:
      return absl::StrFormat("ramp from %.4g/s to %.4g/s", spec.rate_per_s, spec.ramp_to_per_s);
    case ArrivalKind::kBurst:
      return absl::StrFormat("burst at mean %.4g/s: %s on, %s off", spec.rate_per_s,
                             absl::FormatDuration(spec.burst_on),
                             absl::FormatDuration(spec.burst_off));
    case ArrivalKind::kTrace:
      return "trace replay";
  }
  return "unknown";
}

}  // namespace baton::load
