#include "worker/health_page.h"

#include "absl/strings/str_cat.h"
#include "absl/strings/str_format.h"

namespace baton {
namespace {

AdminResponse Readiness(const HealthFacts& facts) {
  switch (facts.phase) {
    case WorkerPhase::kReady:
      return {.body = "ready\n"};
    case WorkerPhase::kDraining:
      return {.status = 503, .body = "draining\n"};
    case WorkerPhase::kBroken:
      return {.status = 503, .body = "broken: the engine failed\n"};
    case WorkerPhase::kLoading:
      break;
  }
  if (facts.load_total_bytes <= 0) return {.status = 503, .body = "loading\n"};
  const double share =
      static_cast<double>(facts.load_done_bytes) / static_cast<double>(facts.load_total_bytes);
  return {.status = 503, .body = absl::StrFormat("loading %.0f%%\n", 100.0 * share)};
}

}  // namespace

AdminResponse HealthPage(std::string_view path, const HealthFacts& facts) {
  if (path == "/livez") {
    if (facts.phase == WorkerPhase::kBroken) return Readiness(facts);
    return {.body = "alive\n"};
  }
  if (path == "/readyz" || path == "/health") return Readiness(facts);
  if (path == "/version") {
    return {.content_type = "application/json",
            .body = absl::StrCat("{\"version\": \"", facts.version, "\"}\n")};
  }
  return {.status = 404, .body = "not found; try /metrics, /livez, /readyz, /health, /version\n"};
}

}  // namespace baton
