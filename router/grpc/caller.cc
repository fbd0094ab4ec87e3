#include "router/grpc/caller.h"

#include <utility>

#include "router/grpc/status_map.h"

namespace baton {

std::string Metadata(const grpc::CallbackServerContext& call, const char* name) {
  const auto found = call.client_metadata().find(name);
  if (found == call.client_metadata().end()) return "";
  return {found->second.data(), found->second.size()};
}

CallerCheck CheckCaller(const grpc::CallbackServerContext& call, const GrpcContext& context,
                        Access needed) {
  if (context.parts.access == nullptr) return {};
  AccessDecision decision = context.parts.access->Check(Metadata(call, "authorization"), needed);
  return {.refused = RefusedStatus(decision), .tenant = std::move(decision.tenant)};
}

}  // namespace baton
