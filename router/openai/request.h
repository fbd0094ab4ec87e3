// Parses and checks the bodies of /v1/completions and /v1/chat/completions.
//
// Pure and thread-safe. Every optional field accepts null; a field of the wrong type or out of its
// range is a 400 that names it; an unknown field is reported and ignored; a field that is known but
// not implemented is a 400. Specification: the OpenAI API reference, and vLLM's for the extensions.
#pragma once

#include <cstdint>
#include <functional>
#include <string>
#include <string_view>
#include <vector>

#include "absl/status/statusor.h"
#include "absl/time/time.h"
#include "engine/tokenizer/tokenizer.h"
#include "router/completion_service.h"
#include "router/front/id_source.h"
#include "router/front/limits.h"
#include "router/openai/api_error.h"
#include "router/openai/response.h"

namespace baton {

// Renders a chat template; its argument is ChatTemplate::Render's. Empty: the model has none.
using ChatRenderer = std::function<absl::StatusOr<std::string>(std::string_view context_json)>;

// What parsing needs to know of the server. Views: valid during the call.
struct ParseContext {
  const Tokenizer& tokenizer;
  const ChatRenderer& render_chat;
  IdSource& ids;
  ServedModel model;
  RequestLimits limits;
  absl::Duration timeout;
  int64_t now_unix_s = 0;
  // Called for each field of the body that nobody reads. May be empty.
  std::function<void(std::string_view field)> on_unknown_field;
};

// What travels in headers. Empty: not given.
struct RequestHeaders {
  std::string request_id;     // x-request-id
  std::string slo_class;      // x-slo-class
  std::string authorization;  // only ever hashed
  std::string tenant;         // of the API key in it; empty: nobody asked for one
};

// A checked call. Each prompt of a batched completions call is a submission of its own.
struct ApiRequest {
  std::string request_id;  // for the x-request-id header and the Control API
  std::vector<RoutedRequest> prompts;
  ResponseShape shape;
};

ApiResult<ApiRequest> ParseCompletionRequest(std::string_view body, const RequestHeaders& headers,
                                             const ParseContext& context);
ApiResult<ApiRequest> ParseChatRequest(std::string_view body, const RequestHeaders& headers,
                                       const ParseContext& context);

}  // namespace baton
