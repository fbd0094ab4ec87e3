#include "router/core/ejection.h"

#include <algorithm>
#include <utility>

namespace baton::router {
namespace {

// Beyond them a figure says no more, and less may be nonsense.
constexpr double kLeastSlowness = 0.01;
constexpr double kMostSlowness = 1000;

// Of the steps between two moments; REQUIRES: there were some.
double SlownessOf(const StepTime& from, const StepTime& to) {
  const double calibrated_ms = to.calibrated_ms - from.calibrated_ms;
  if (!(calibrated_ms > 0)) return 1;  // nothing is known
  return std::clamp((to.measured_ms - from.measured_ms) / calibrated_ms, kLeastSlowness,
                    kMostSlowness);
}

}  // namespace

std::string_view StandingName(Standing standing) {
  switch (standing) {
    case Standing::kIn:
      return "in";
    case Standing::kOut:
      return "ejected";
    case Standing::kProbing:
      return "probing";
  }
  return "unknown";
}

void EjectionPool::Report(absl::Time now, WorkerIndex index, const SpeedReport& report) {
  Worker& worker = workers_[static_cast<size_t>(index.value())];
  const Mark mark{now, report.step_time, report.steps};
  if (!worker.serves) worker.sample = mark;
  SetServes(index, !report.draining);
  if (report.draining) return;
  worker.alone_ms = report.alone_ms;
  TakeSample(now, worker, mark);
  switch (worker.standing) {
    case Standing::kIn: {
      const bool slow = worker.slow_samples >= options_.out_samples &&
                        now - worker.slow_since >= options_.out_after;
      if (!slow || 2 * (num_out_ + 1) > num_serving_) break;
      worker.probe_after = options_.probe_after;
      worker.probe_at = now + worker.probe_after;
      Move(index, Standing::kOut);
      break;
    }
    case Standing::kOut:
      if (now < worker.probe_at) break;
      worker.probe = mark;
      Move(index, Standing::kProbing);
      break;
    case Standing::kProbing:
      if (mark.steps < worker.probe.steps + options_.probe_steps ||
          now - worker.probe.at < options_.probe_for) {
        break;
      }
      if (Ratio(now, SlownessOf(worker.probe.step_time, mark.step_time), worker.alone_ms) <
          options_.in_ratio) {
        Move(index, Standing::kIn);
        break;
      }
      worker.probe_after = std::min(2 * worker.probe_after, options_.most_probe_after);
      worker.probe_at = now + worker.probe_after;
      Move(index, Standing::kOut);
      break;
  }
}

// A sample without a step begins again: it says nothing, and what is known stands.
void EjectionPool::TakeSample(absl::Time now, Worker& worker, const Mark& mark) {
  if (mark.steps <= worker.sample.steps) {
    worker.sample = mark;
    return;
  }
  if (now - worker.sample.at < options_.sample) return;
  const Mark began = std::exchange(worker.sample, mark);
  worker.slowness = SlownessOf(began.step_time, mark.step_time);
  if (!(Ratio(now, worker.slowness, worker.alone_ms) > options_.out_ratio)) {
    worker.slow_samples = 0;
    return;
  }
  if (worker.slow_samples++ == 0) worker.slow_since = began.at;
}

void EjectionPool::Gone(WorkerIndex worker) { SetServes(worker, false); }

std::vector<WorkerIndex> EjectionPool::TakeChanges() { return std::exchange(changes_, {}); }

// One that does not serve is not out either.
void EjectionPool::SetServes(WorkerIndex index, bool serves) {
  Worker& worker = workers_[static_cast<size_t>(index.value())];
  if (worker.serves == serves) return;
  worker.serves = serves;
  num_serving_ += serves ? 1 : -1;
  if (serves) return;
  Move(index, Standing::kIn);
  worker = Worker{};
  for (size_t i = 0; i < workers_.size() && 2 * num_out_ > num_serving_; ++i) {
    Move(WorkerIndex(static_cast<int32_t>(i)), Standing::kIn);
  }
}

void EjectionPool::Move(WorkerIndex index, Standing to) {
  Worker& worker = workers_[static_cast<size_t>(index.value())];
  if (worker.standing == to) return;
  num_out_ += (to == Standing::kIn ? 0 : 1) - (worker.standing == Standing::kIn ? 0 : 1);
  worker.standing = to;
  if (to == Standing::kIn) worker.slow_samples = 0;
  changes_.push_back(index);
}

double EjectionPool::Ratio(absl::Time now, double slowness, double alone_ms) {
  if (now - median_at_ >= absl::Seconds(1)) {
    median_at_ = now;
    median_slowness_ = std::max(1.0, Median([](const Worker& each) { return each.slowness; }));
    median_step_ms_ = std::max(1e-6, Median([](const Worker& each) { return each.step_ms(); }));
  }
  return std::min(slowness / median_slowness_, slowness * alone_ms / median_step_ms_);
}

// The lower one of an even number: of two workers, one of which is slow, the other sets the
// measure. REQUIRES: a worker serves.
template <typename Figure>
double EjectionPool::Median(const Figure& figure) const {
  std::vector<double> all;
  for (const Worker& worker : workers_) {
    if (worker.serves) all.push_back(figure(worker));
  }
  const auto middle = all.begin() + static_cast<std::ptrdiff_t>((all.size() - 1) / 2);
  std::nth_element(all.begin(), middle, all.end());
  return *middle;
}

}  // namespace baton::router
