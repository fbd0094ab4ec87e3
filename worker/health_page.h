// What /livez, /readyz, /health and /version answer. Pure.
#pragma once

#include <cstdint>
#include <string>
#include <string_view>

#include "worker/admin_server.h"

namespace baton {

enum class WorkerPhase { kLoading, kReady, kDraining, kBroken };

struct HealthFacts {
  WorkerPhase phase = WorkerPhase::kLoading;
  int64_t load_done_bytes = 0;
  int64_t load_total_bytes = 0;
  std::string version;
};

// 404 for a path that it does not know.
AdminResponse HealthPage(std::string_view path, const HealthFacts& facts);

}  // namespace baton
