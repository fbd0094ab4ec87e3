// Takes workers out of service that still answer but have become slow (gray failure): a throttled
// or sick machine, not one that has always been slower than others. A worker's slowness is the time
// that its steps took over what it calibrated for them at start-up. It is compared with the median
// of its pool, so that load that slows all of them ejects nobody; and so is the time of one and the
// same step, so that nobody is ejected beside one that calibrated itself under load. Steps are all
// that counts: a worker that is slow at something else is not seen here.
//
//   from     to       when
//   in       out      every sample of the last `out_after`, at least `out_samples`, was above
//                     `out_ratio` medians, and no more than half of those that serve would be out
//   out      probing  after `probe_after`, twice as long each time, `most_probe_after` at most
//   probing  in       its steps since then, at least `probe_steps` in `probe_for`, took less than
//                     `in_ratio` medians
//   probing  out      they took more
//   any      in       more than half would be out, since others have died or drain
//
// Requests that a worker has stay there. While probing it takes one at a time, and is predicted as
// it calibrated itself, or it would never be chosen. One that has calibrated nothing is never
// ejected: how slow it is is not known. Pure, O(1) but for the median, which is taken once a
// second.
#pragma once

#include <cstdint>
#include <string_view>
#include <vector>

#include "absl/time/time.h"
#include "common/step_model.h"
#include "router/core/types.h"

namespace baton::router {

enum class Standing : uint8_t { kIn, kOut, kProbing };
std::string_view StandingName(Standing standing);  // "in", "ejected", "probing"

struct EjectionOptions {
  double out_ratio = 3;
  double in_ratio = 2;
  absl::Duration sample = absl::Seconds(2);  // shorter ones may fall between two stalls
  absl::Duration out_after = absl::Seconds(10);
  int32_t out_samples = 2;  // one may be a single step that was held up
  absl::Duration probe_after = absl::Seconds(5);
  absl::Duration most_probe_after = absl::Seconds(60);
  uint64_t probe_steps = 8;
  absl::Duration probe_for = absl::Seconds(2);
};

// What a worker with a step model says of itself.
struct SpeedReport {
  StepTime step_time;   // since its start
  uint64_t steps = 0;   // the same
  double alone_ms = 1;  // as calibrated, of a step that is the same for all of the pool
  bool draining = false;
};

// One pool: the workers of one role.
class EjectionPool {
 public:
  EjectionPool(const EjectionOptions& options, int32_t num_workers)
      : options_(options), workers_(static_cast<size_t>(num_workers)) {}

  // A worker that has never reported here counts for nothing.
  void Report(absl::Time now, WorkerIndex worker, const SpeedReport& report);
  void Gone(WorkerIndex worker);  // dead, or draining: what is known of it is forgotten

  Standing standing(WorkerIndex worker) const { return At(worker).standing; }
  int32_t num_out() const { return num_out_; }  // probing ones, too
  // Workers whose standing has changed since the last call.
  std::vector<WorkerIndex> TakeChanges();

 private:
  struct Mark {  // a moment, and the worker's counts at it
    absl::Time at;
    StepTime step_time;
    uint64_t steps = 0;
  };
  struct Worker {
    bool serves = false;  // it lives and does not drain
    Standing standing = Standing::kIn;
    Mark sample;          // where the present one began
    double slowness = 1;  // of the last whole one
    double alone_ms = 1;
    int32_t slow_samples = 0;  // in a row, the last ones
    absl::Time slow_since;     // where the first of them began
    absl::Time probe_at;
    absl::Duration probe_after;
    Mark probe;  // where it began

    double step_ms() const { return slowness * alone_ms; }
  };

  const Worker& At(WorkerIndex worker) const {
    return workers_[static_cast<size_t>(worker.value())];
  }
  void TakeSample(absl::Time now, Worker& worker, const Mark& mark);
  void SetServes(WorkerIndex worker, bool serves);
  void Move(WorkerIndex worker, Standing to);
  // In medians.
  double Ratio(absl::Time now, double slowness, double alone_ms);
  template <typename Figure>
  double Median(const Figure& figure) const;

  const EjectionOptions options_;
  std::vector<Worker> workers_;
  std::vector<WorkerIndex> changes_;
  int32_t num_serving_ = 0;  // those that are out as well
  int32_t num_out_ = 0;
  double median_slowness_ = 1;
  double median_step_ms_ = 1;
  absl::Time median_at_ = absl::InfinitePast();
};

}  // namespace baton::router
