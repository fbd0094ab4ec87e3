#include "worker/status_loop.h"

#include <algorithm>
#include <utility>

#include "absl/strings/str_format.h"

namespace baton {

StatsLine MakeStatsLine(const StatusSnapshot& before, const StatusSnapshot& now,
                        absl::Duration between) {
  StatsLine line;
  const double seconds = absl::ToDoubleSeconds(between);
  line.silent = now.steps_completed == before.steps_completed && now.role.open == 0;
  if (line.silent || seconds <= 0) return line;
  const auto rate = [&](uint64_t from, uint64_t to) {
    return static_cast<double>(to - from) / seconds;
  };
  line.prompt_tokens_per_s = rate(before.role.prompt_tokens, now.role.prompt_tokens);
  line.generation_tokens_per_s = rate(before.role.generation_tokens, now.role.generation_tokens);
  if (now.total_blocks() > 0) {
    line.kv_usage_percent =
        100.0 * (now.total_blocks() - now.available_blocks()) / now.total_blocks();
  }
  const auto queried = now.prefix_query_tokens_total - before.prefix_query_tokens_total;
  const auto hit = now.prefix_hit_tokens_total - before.prefix_hit_tokens_total;
  if (queried > 0) line.prefix_hit_percent = 100.0 * static_cast<double>(hit) / queried;
  return line;
}

StatusLoop::StatusLoop(const StatusLoopOptions& options, std::function<StatusSnapshot()> snapshot,
                       ControlServer& server, WorkerMetrics& metrics, const Clock& clock,
                       Logger& log)
    : options_(options),
      snapshot_(std::move(snapshot)),
      server_(server),
      metrics_(metrics),
      clock_(clock),
      log_(log),
      stats_before_(snapshot_()),
      stats_at_(clock.Now()),
      thread_([this] { Run(); }) {}

StatusLoop::~StatusLoop() {
  {
    absl::MutexLock lock(&mutex_);
    stopping_ = true;
  }
  thread_.join();
}

void StatusLoop::Notify() {
  absl::MutexLock lock(&mutex_);
  dirty_ = true;
}

void StatusLoop::Run() {
  const auto wakes = [this]() ABSL_EXCLUSIVE_LOCKS_REQUIRED(mutex_) { return stopping_ || dirty_; };
  const auto stops = [this]() ABSL_EXCLUSIVE_LOCKS_REQUIRED(mutex_) { return stopping_; };
  absl::Time last_sent = absl::InfinitePast();
  while (true) {
    bool dirty = false;
    {
      absl::MutexLock lock(&mutex_);
      mutex_.AwaitWithTimeout(
          absl::Condition(&wakes),
          std::min(options_.lease_check, last_sent + options_.heartbeat - clock_.Now()));
      // Changes come in bursts: wait out the shortest interval, then one status tells them all.
      const absl::Duration too_early = last_sent + options_.min_interval - clock_.Now();
      if (dirty_ && too_early > absl::ZeroDuration()) {
        mutex_.AwaitWithTimeout(absl::Condition(&stops), too_early);
      }
      if (stopping_) return;
      dirty = std::exchange(dirty_, false);
    }
    const absl::Time now = clock_.Now();
    server_.CheckLeases();
    const StatusSnapshot snapshot = snapshot_();
    metrics_.Update(snapshot, now);
    if (dirty || now >= last_sent + options_.heartbeat) {
      server_.SendStatus(snapshot);
      last_sent = now;
    }
    if (now >= stats_at_ + options_.stats_interval) LogStats(snapshot, now);
  }
}

void StatusLoop::LogStats(const StatusSnapshot& snapshot, absl::Time now) {
  const StatsLine line = MakeStatsLine(stats_before_, snapshot, now - stats_at_);
  stats_before_ = snapshot;
  stats_at_ = now;
  if (line.silent) return;
  log_.Info("stats",
            {{"running", snapshot.running},
             {"waiting", snapshot.waiting},
             {"open", snapshot.role.open},
             {"prompt_tokens_per_s", absl::StrFormat("%.1f", line.prompt_tokens_per_s)},
             {"generation_tokens_per_s", absl::StrFormat("%.1f", line.generation_tokens_per_s)},
             {"kv_usage_percent", absl::StrFormat("%.1f", line.kv_usage_percent)},
             {"prefix_hit_percent", absl::StrFormat("%.1f", line.prefix_hit_percent)},
             {"step_ms", absl::StrFormat("%.2f", snapshot.step_ms_ewma)},
             {"preemptions", snapshot.preemptions_total}});
}

}  // namespace baton
