// The body of GET /cluster. Pure.
#pragma once

#include <string>

#include "router/cluster_report.h"
#include "router/completion_service.h"

namespace baton {

std::string RenderClusterReport(const ClusterReport& report, const ServedModel& model,
                                const Readiness& readiness);

}  // namespace baton
