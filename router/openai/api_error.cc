#include "router/openai/api_error.h"

#include "router/openai/json_writer.h"

namespace baton {

ApiError InvalidField(std::string param, std::string message) {
  return ApiError{.http_status = 400,
                  .message = std::move(message),
                  .type = "invalid_request_error",
                  .param = std::move(param)};
}

ApiError FromFieldError(FieldError error) {
  ApiError result = InvalidField(std::move(error.param), std::move(error.message));
  if (error.context_length) result.code = "context_length_exceeded";
  return result;
}

std::string RenderError(const ApiError& error) {
  std::string out = "{\"error\":{\"message\":";
  AppendJsonString(out, error.message);
  out += ",\"type\":";
  AppendJsonString(out, error.type);
  out += ",\"param\":";
  AppendJsonStringOrNull(out, error.param);
  out += ",\"code\":";
  AppendJsonStringOrNull(out, error.code);
  out += "}}";
  return out;
}

}  // namespace baton
