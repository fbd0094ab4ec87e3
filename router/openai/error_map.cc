// The one table from the router's errors to HTTP.

#include <algorithm>
#include <string>

#include "router/openai/api_error.h"

namespace baton {
namespace {

struct Row {
  RequestErrorCode code;
  int http_status;
  const char* type;
  const char* name;  // "code" in the answer; empty: null
};

constexpr Row kRows[] = {
    {RequestErrorCode::kInvalid, 400, "invalid_request_error", ""},
    {RequestErrorCode::kContextLength, 400, "invalid_request_error", "context_length_exceeded"},
    {RequestErrorCode::kNeverFits, 400, "invalid_request_error", "never_fits"},
    {RequestErrorCode::kOverloaded, 429, "rate_limit_error", "overloaded"},
    {RequestErrorCode::kNoWorkers, 503, "server_error", "no_workers"},
    {RequestErrorCode::kPrefillLost, 503, "server_error", "prefill_lost"},
    {RequestErrorCode::kDecodeLost, 503, "server_error", "decode_lost"},
    {RequestErrorCode::kKvExhausted, 503, "server_error", "kv_exhausted"},
    {RequestErrorCode::kDraining, 503, "server_error", "draining"},
    {RequestErrorCode::kQuarantined, 500, "server_error", "request_quarantined"},
    {RequestErrorCode::kDeadline, 504, "timeout_error", "deadline_exceeded"},
    {RequestErrorCode::kInternal, 500, "server_error", "internal_error"},
    // 499: client libraries retry 409 and 5xx, and an aborted request must not come back.
    {RequestErrorCode::kAborted, 499, "request_aborted", "aborted"},
};

int64_t RetryAfterSeconds(absl::Duration wait) {
  if (wait <= absl::ZeroDuration()) return 0;
  return std::max<int64_t>(1, absl::ToInt64Seconds(absl::Ceil(wait, absl::Seconds(1))));
}

}  // namespace

ApiError FromRequestError(const RequestError& error) {
  for (const Row& row : kRows) {
    if (row.code != error.code) continue;
    ApiError result{.http_status = row.http_status,
                    .message = error.message,
                    .type = row.type,
                    .code = row.name,
                    .retry_after_s = RetryAfterSeconds(error.retry_after)};
    // Clients of an overloaded server read Retry-After; without one they come back at once.
    if (row.http_status == 429 && result.retry_after_s == 0) result.retry_after_s = 1;
    return result;
  }
  return ApiError{.message = error.message, .type = "server_error", .code = "internal_error"};
}

std::optional<ApiError> FromAccess(const AccessDecision& decision) {
  switch (decision.result) {
    case AccessDecision::Result::kAllowed:
      return std::nullopt;
    case AccessDecision::Result::kNoKey:
      return ApiError{.http_status = 401,
                      .message = "An API key is needed: send the header Authorization: Bearer KEY",
                      .type = "authentication_error",
                      .code = "missing_api_key"};
    case AccessDecision::Result::kWrongKey:
      return ApiError{.http_status = 401,
                      .message = "The API key is not valid",
                      .type = "authentication_error",
                      .code = "invalid_api_key"};
    case AccessDecision::Result::kNotAdmin:
      return ApiError{.http_status = 403,
                      .message = "The API key is not an administrator's",
                      .type = "permission_error",
                      .code = "admin_key_needed"};
    case AccessDecision::Result::kOverQuota:
      return ApiError{.http_status = 429,
                      .message = "The API key has used up its requests per minute",
                      .type = "rate_limit_error",
                      .code = "rate_limit_exceeded",
                      .retry_after_s = RetryAfterSeconds(decision.retry_after)};
  }
  return std::nullopt;
}

std::optional<ApiError> FromReadiness(const Readiness& readiness) {
  switch (readiness.phase) {
    case ReadyPhase::kReady:
      return std::nullopt;
    case ReadyPhase::kLoading:
      return ApiError{.http_status = 503,
                      .message = "The server is loading: " + readiness.detail,
                      .type = "server_error",
                      .code = "loading",
                      .retry_after_s = 1};
    case ReadyPhase::kDraining:
      return ApiError{.http_status = 503,
                      .message = "The server is shutting down",
                      .type = "server_error",
                      .code = "draining",
                      .retry_after_s = 1};
  }
  return std::nullopt;
}

}  // namespace baton
