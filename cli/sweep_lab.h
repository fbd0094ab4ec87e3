// Where a sweep measures: clusters of this executable's own processes on this machine.
#pragma once

#include <cstdint>
#include <memory>
#include <string>

#include "absl/status/statusor.h"
#include "bench/sweep/core/sweep.h"
#include "cli/signals.h"
#include "common/log.h"

namespace baton {

struct SweepLabOptions {
  std::string model;  // as of `baton worker`
  std::string kv_memory = "512MiB";
  absl::Duration request_timeout = absl::Minutes(2);
};

// A signal ends the run at hand, and every later start, with CANCELLED.
class SweepLab final : public sweep::Lab {
 public:
  SweepLab(SweepLabOptions options, SignalWaiter& signals, Logger& log)
      : options_(std::move(options)), signals_(signals), log_(log) {}

  absl::Time Now() override;
  absl::StatusOr<std::unique_ptr<sweep::Cluster>> Start(const sweep::Setup& setup,
                                                        const load::Slo& slo,
                                                        bool admission) override;

 private:
  const SweepLabOptions options_;
  SignalWaiter& signals_;
  Logger& log_;
  bool stopped_ = false;  // a signal came: nothing starts any more
};

}  // namespace baton
