#include "router/grpc/status_map.h"

#include <google/protobuf/any.pb.h>
#include <google/protobuf/duration.pb.h>

#include "absl/time/time.h"

namespace baton {
namespace {

struct Row {
  RequestErrorCode code;
  grpc::StatusCode grpc_code;
};

constexpr Row kRows[] = {
    {RequestErrorCode::kInvalid, grpc::StatusCode::INVALID_ARGUMENT},
    {RequestErrorCode::kContextLength, grpc::StatusCode::INVALID_ARGUMENT},
    {RequestErrorCode::kNeverFits, grpc::StatusCode::INVALID_ARGUMENT},
    {RequestErrorCode::kOverloaded, grpc::StatusCode::RESOURCE_EXHAUSTED},
    {RequestErrorCode::kNoWorkers, grpc::StatusCode::UNAVAILABLE},
    {RequestErrorCode::kPrefillLost, grpc::StatusCode::UNAVAILABLE},
    {RequestErrorCode::kDecodeLost, grpc::StatusCode::UNAVAILABLE},
    {RequestErrorCode::kKvExhausted, grpc::StatusCode::UNAVAILABLE},
    {RequestErrorCode::kDraining, grpc::StatusCode::UNAVAILABLE},
    {RequestErrorCode::kQuarantined, grpc::StatusCode::INTERNAL},
    {RequestErrorCode::kDeadline, grpc::StatusCode::DEADLINE_EXCEEDED},
    {RequestErrorCode::kInternal, grpc::StatusCode::INTERNAL},
    {RequestErrorCode::kAborted, grpc::StatusCode::CANCELLED},
};

grpc::StatusCode CodeOf(RequestErrorCode code) {
  for (const Row& row : kRows) {
    if (row.code == code) return row.grpc_code;
  }
  return grpc::StatusCode::INTERNAL;
}

// google/rpc/status.proto and error_details.proto are not among our dependencies; the three
// messages that we send are written by hand, in protobuf's wire format.
void AppendVarint(uint64_t value, std::string& out) {
  for (; value >= 0x80; value >>= 7) out += static_cast<char>(value | 0x80);
  out += static_cast<char>(value);
}

void AppendBytesField(int number, const std::string& bytes, std::string& out) {
  AppendVarint(static_cast<uint64_t>(number) << 3 | 2, out);
  AppendVarint(bytes.size(), out);
  out += bytes;
}

// RetryInfo { Duration retry_delay = 1; }
std::string RetryInfo(absl::Duration delay) {
  google::protobuf::Duration proto;
  proto.set_seconds(absl::ToInt64Seconds(delay));
  proto.set_nanos(static_cast<int32_t>(
      absl::ToInt64Nanoseconds(delay - absl::Seconds(absl::ToInt64Seconds(delay)))));
  std::string out;
  AppendBytesField(1, proto.SerializeAsString(), out);
  return out;
}

// BadRequest { repeated FieldViolation { string field = 1; string description = 2; } = 1; }
std::string BadRequest(const std::string& field, const std::string& description) {
  std::string violation;
  AppendBytesField(1, field, violation);
  AppendBytesField(2, description, violation);
  std::string out;
  AppendBytesField(1, violation, out);
  return out;
}

// google.rpc.Status { int32 code = 1; string message = 2; repeated Any details = 3; }
grpc::Status WithDetail(grpc::StatusCode code, const std::string& message, const std::string& type,
                        const std::string& detail) {
  google::protobuf::Any any;
  any.set_type_url("type.googleapis.com/google.rpc." + type);
  any.set_value(detail);
  std::string status;
  AppendVarint(1 << 3, status);
  AppendVarint(static_cast<uint64_t>(code), status);
  AppendBytesField(2, message, status);
  AppendBytesField(3, any.SerializeAsString(), status);
  return grpc::Status(code, message, status);
}

}  // namespace

grpc::Status ToGrpcStatus(const RequestError& error) {
  const grpc::StatusCode code = CodeOf(error.code);
  if (error.retry_after <= absl::ZeroDuration()) return grpc::Status(code, error.message);
  return WithDetail(code, error.message, "RetryInfo", RetryInfo(error.retry_after));
}

grpc::Status ToGrpcStatus(const FieldError& error) {
  return WithDetail(grpc::StatusCode::INVALID_ARGUMENT, error.message, "BadRequest",
                    BadRequest(error.param, error.message));
}

grpc::Status ToGrpcStatus(const ApiError& error) {
  return ToGrpcStatus(FieldError{error.param, error.message});
}

std::optional<grpc::Status> RefusedStatus(const AccessDecision& decision) {
  const std::optional<ApiError> error = FromAccess(decision);
  if (!error) return std::nullopt;
  switch (error->http_status) {
    case 401:
      return grpc::Status(grpc::StatusCode::UNAUTHENTICATED, error->message);
    case 403:
      return grpc::Status(grpc::StatusCode::PERMISSION_DENIED, error->message);
    default:
      return WithDetail(grpc::StatusCode::RESOURCE_EXHAUSTED, error->message, "RetryInfo",
                        RetryInfo(decision.retry_after));
  }
}

std::optional<grpc::Status> NotReadyStatus(const Readiness& readiness) {
  switch (readiness.phase) {
    case ReadyPhase::kReady:
      return std::nullopt;
    case ReadyPhase::kLoading:
      return ToGrpcStatus(RequestError{RequestErrorCode::kNoWorkers,
                                       "the server is loading: " + readiness.detail,
                                       absl::Seconds(1)});
    case ReadyPhase::kDraining:
      return ToGrpcStatus(RequestError{RequestErrorCode::kDraining, "the server is shutting down"});
  }
  return std::nullopt;
}

}  // namespace baton
