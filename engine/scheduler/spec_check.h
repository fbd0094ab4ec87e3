// Whether a request can be served at all: everything that a hostile or broken spec could do to the
// engine is refused here.
#pragma once

#include "absl/status/status.h"
#include "common/request.h"
#include "engine/scheduler/scheduler.h"

namespace baton {

// INVALID_ARGUMENT names the field, its value and what is allowed. Pure.
absl::Status CheckSpec(const GenerationSpec& spec, const SchedulerOptions& options);

}  // namespace baton
