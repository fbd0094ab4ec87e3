// The SLO classes of the configuration: a list of maps in YAML, of "key=value;key=value" in flags.
//
//   slo_classes:
//     - {name: chat, ttft_ms: 500, tpot_ms: 50, weight: 2}
//     - {name: batch, ttft_ms: 60000, tpot_ms: 500, shed_order: 1}
#pragma once

#include <string>
#include <vector>

#include "absl/status/statusor.h"
#include "router/core/slo.h"

namespace baton {

// Pure. INVALID_ARGUMENT names the class, the field, its value and what is allowed. `name`,
// `ttft_ms` and `tpot_ms` are required.
absl::StatusOr<std::vector<router::SloClass>> ParseSloClasses(
    const std::vector<std::string>& entries);

}  // namespace baton
