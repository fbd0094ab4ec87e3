// The small answers: /v1/models, /health, /livez, /readyz, /version. Pure.
#pragma once

#include <string>
#include <string_view>

#include "router/completion_service.h"

namespace baton {

std::string_view ReadyPhaseName(ReadyPhase phase);  // "loading", "ready", "draining"
std::string RenderModelList(const ServedModel& model);
std::string RenderModel(const ServedModel& model);  // GET /v1/models/{id}
// {"status":"ready"|"loading"|"draining","detail":…}
std::string RenderReadiness(const Readiness& readiness);
std::string RenderVersion(std::string_view version);

}  // namespace baton
