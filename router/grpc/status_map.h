// The one table from the router's errors to gRPC status. Internal to router/grpc.
#pragma once

#include <grpcpp/support/status.h>

#include <optional>
#include <string>

#include "router/completion_service.h"
#include "router/front/field_error.h"
#include "router/openai/api_error.h"

namespace baton {

// With google.rpc.RetryInfo where the error names a wait.
grpc::Status ToGrpcStatus(const RequestError& error);
// INVALID_ARGUMENT with google.rpc.BadRequest, which names the field.
grpc::Status ToGrpcStatus(const FieldError& error);
// For what the shared request code refuses in HTTP's terms (chat templates).
grpc::Status ToGrpcStatus(const ApiError& error);
// UNAUTHENTICATED, PERMISSION_DENIED or RESOURCE_EXHAUSTED; nullopt when the caller is let in.
std::optional<grpc::Status> RefusedStatus(const AccessDecision& decision);
// UNAVAILABLE while loading or draining.
std::optional<grpc::Status> NotReadyStatus(const Readiness& readiness);

}  // namespace baton
