// An answer that is not 2xx, in the OpenAI format.
#pragma once

#include <cstdint>
#include <optional>
#include <string>
#include <utility>
#include <variant>

#include "common/check.h"
#include "router/completion_service.h"
#include "router/front/access.h"
#include "router/front/field_error.h"

namespace baton {

struct ApiError {
  int http_status = 500;
  std::string message;
  std::string type;           // "invalid_request_error", "server_error", …
  std::string param;          // empty: null
  std::string code;           // empty: null
  int64_t retry_after_s = 0;  // > 0: a Retry-After header
};

// 400, type invalid_request_error, naming the field.
ApiError InvalidField(std::string param, std::string message);
ApiError FromFieldError(FieldError error);
// The one table from the router's errors to HTTP.
ApiError FromRequestError(const RequestError& error);
// 401, 403 or 429; nullopt when the caller is let in. Says nothing of the keys that exist.
std::optional<ApiError> FromAccess(const AccessDecision& decision);
// 503 while loading or draining; nullopt when ready.
std::optional<ApiError> FromReadiness(const Readiness& readiness);

// {"error":{"message":…,"type":…,"param":…,"code":…}}
std::string RenderError(const ApiError& error);

// A value or the answer that refuses it.
template <typename T>
class ApiResult {
 public:
  ApiResult(T value) : state_(std::move(value)) {}         // NOLINT: implicit like StatusOr
  ApiResult(ApiError error) : state_(std::move(error)) {}  // NOLINT

  [[nodiscard]] bool ok() const { return std::holds_alternative<T>(state_); }
  T& value() {
    BATON_CHECK(ok());
    return std::get<T>(state_);
  }
  const ApiError& error() const {
    BATON_CHECK(!ok());
    return std::get<ApiError>(state_);
  }

 private:
  std::variant<T, ApiError> state_;
};

}  // namespace baton
