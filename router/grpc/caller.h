// Who calls: metadata and API key. Internal to router/grpc.
#pragma once

#include <grpcpp/server_context.h>

#include <optional>
#include <string>

#include "router/front/access.h"
#include "router/grpc/request_convert.h"

namespace baton {

// Empty when there is none of that name.
std::string Metadata(const grpc::CallbackServerContext& call, const char* name);

struct CallerCheck {
  std::optional<grpc::Status> refused;
  std::string tenant;  // of the API key; empty: nobody asked for one
};

// To be asked at the start of every method, before its message is looked at.
CallerCheck CheckCaller(const grpc::CallbackServerContext& call, const GrpcContext& context,
                        Access needed);

}  // namespace baton
