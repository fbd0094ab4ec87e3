#include "router/http/api.h"

#include <algorithm>

#include "absl/strings/match.h"
#include "absl/strings/str_cat.h"
#include "absl/time/clock.h"
#include "common/strings.h"
#include "router/cluster_report.h"
#include "router/http/live_page.h"
#include "router/openai/cluster_json.h"
#include "router/openai/server_info.h"
#include "router/openai/tokenize_api.h"

namespace baton {
namespace {

struct RouteRow {
  std::string_view path;
  std::string_view method;
  Route route;
  std::optional<Access> needs;  // none: open to everybody
};

constexpr RouteRow kRoutes[] = {
    {"/v1/completions", "POST", Route::kCompletions, Access::kUse},
    {"/v1/chat/completions", "POST", Route::kChat, Access::kUse},
    {"/v1/models", "GET", Route::kModels, Access::kUse},
    {"/tokenize", "POST", Route::kTokenize, Access::kUse},
    {"/detokenize", "POST", Route::kDetokenize, Access::kUse},
    {"/health", "GET", Route::kHealth, std::nullopt},
    {"/livez", "GET", Route::kLivez, std::nullopt},
    {"/readyz", "GET", Route::kReadyz, std::nullopt},
    {"/metrics", "GET", Route::kMetrics, Access::kAdmin},
    {"/version", "GET", Route::kVersion, Access::kUse},
    {"/", "GET", Route::kLivePage, std::nullopt},
    {"/cluster", "GET", Route::kCluster, Access::kAdmin},
};
constexpr RouteRow kModelRow{"/v1/models/", "GET", Route::kModel, Access::kUse};

// Names that were logged once; a client that invents names must not fill memory or the log.
constexpr size_t kMaxUnknownFields = 256;
constexpr size_t kMaxLoggedFieldBytes = 64;

const RouteRow* FindRoute(std::string_view path) {
  for (const RouteRow& row : kRoutes) {
    if (row.path == path) return &row;
  }
  if (path.size() > kModelRow.path.size() &&
      path.substr(0, kModelRow.path.size()) == kModelRow.path)
    return &kModelRow;
  return nullptr;
}

bool Allows(const RouteRow& row, std::string_view method) {
  return method == row.method || (row.method == "GET" && method == "HEAD");
}

std::string AllowedMethods(const RouteRow& row) {
  return row.method == "GET" ? "GET, HEAD, OPTIONS" : "POST, OPTIONS";
}

ApiError RouteError(int status, std::string message) {
  return ApiError{
      .http_status = status, .message = std::move(message), .type = "invalid_request_error"};
}

}  // namespace

std::vector<ServedRoute> ServedRoutes() {
  std::vector<ServedRoute> routes;
  for (const RouteRow& row : kRoutes) routes.push_back({row.path, row.method, row.needs});
  routes.push_back({kModelRow.path, kModelRow.method, kModelRow.needs});
  return routes;
}

HttpApi::HttpApi(const HttpServerOptions& options, const HttpServerParts& parts)
    : options_(options), parts_(parts), ids_(options.id_seed) {}

RouteDecision HttpApi::Decide(const HttpRequest& head) const {
  const RouteRow* row = FindRoute(head.path);
  if (row == nullptr) {
    ApiError error = RouteError(404, absl::StrCat("there is nothing at ", head.path));
    error.code = "not_found";
    return {.answer = ErrorResponse(error)};
  }
  if (head.method == "OPTIONS") {
    HttpResponse answer{.status = 204};
    answer.headers.emplace_back("Allow", AllowedMethods(*row));
    if (!options_.cors_allow_origin.empty()) {
      answer.headers.emplace_back("Access-Control-Allow-Methods", AllowedMethods(*row));
      answer.headers.emplace_back("Access-Control-Allow-Headers",
                                  "authorization, content-type, x-request-id, x-slo-class");
      answer.headers.emplace_back("Access-Control-Max-Age", "600");
    }
    return {.answer = std::move(answer)};
  }
  if (!Allows(*row, head.method)) {
    HttpResponse answer =
        ErrorResponse(RouteError(405, absl::StrCat(head.path, " does not allow ", head.method,
                                                   "; use ", View(row->method))));
    answer.headers.emplace_back("Allow", AllowedMethods(*row));
    return {.answer = std::move(answer)};
  }
  RouteDecision decision{.route = row->route};
  if (row->needs.has_value() && parts_.access != nullptr) {
    AccessDecision access = parts_.access->Check(head.authorization, *row->needs);
    if (const auto refusal = FromAccess(access)) {
      decision.answer = ErrorResponse(*refusal);
      if (refusal->http_status == 401) {
        decision.answer->headers.emplace_back("WWW-Authenticate", "Bearer");
      }
    }
    decision.tenant = std::move(access.tenant);
  }
  return decision;
}

HttpResponse HttpApi::Answer(Route route, const HttpRequest& request) {
  const Readiness readiness = parts_.service.readiness();
  switch (route) {
    case Route::kLivez:
      return {.body = "{\"status\":\"alive\"}"};
    case Route::kHealth:
    case Route::kReadyz: {
      HttpResponse answer{.body = RenderReadiness(readiness)};
      if (readiness.phase != ReadyPhase::kReady) answer.status = 503;
      return answer;
    }
    case Route::kVersion:
      return {.body = RenderVersion(options_.version)};
    case Route::kLivePage:
      return {.content_type = "text/html; charset=utf-8", .body = std::string(kLivePage)};
    case Route::kCluster:
      return {.body =
                  RenderClusterReport(parts_.service.report(), parts_.service.model(), readiness)};
    case Route::kMetrics:
      return {.content_type = "text/plain; version=0.0.4; charset=utf-8",
              .body = parts_.metrics.Render()};
    default:
      break;
  }
  // The rest needs the model, which is known once the first worker has said what it serves.
  if (readiness.phase == ReadyPhase::kLoading) return ErrorResponse(*FromReadiness(readiness));
  switch (route) {
    case Route::kModels:
      return {.body = RenderModelList(parts_.service.model())};
    case Route::kModel:
      return AnswerModel(request);
    case Route::kTokenize:
      return AnswerResult(Tokenize(request.body, Context()));
    case Route::kDetokenize:
      return AnswerResult(Detokenize(request.body, Context()));
    default:
      return ErrorResponse(RouteError(404, "there is nothing here"));
  }
}

HttpResponse HttpApi::AnswerResult(ApiResult<std::string> result) const {
  if (!result.ok()) return ErrorResponse(result.error());
  return {.body = std::move(result.value())};
}

HttpResponse HttpApi::AnswerModel(const HttpRequest& request) const {
  const ServedModel model = parts_.service.model();
  const std::string name = request.path.substr(kModelRow.path.size());
  if (name == model.name) return {.body = RenderModel(model)};
  ApiError error = RouteError(
      404,
      absl::StrCat("The model '", name, "' does not exist; this server serves '", model.name, "'"));
  error.param = "model";
  error.code = "model_not_found";
  return ErrorResponse(error);
}

ApiResult<ApiRequest> HttpApi::ParseCall(Route route, const HttpRequest& request) {
  if (auto error = FromReadiness(parts_.service.readiness())) return *std::move(error);
  const RequestHeaders headers{request.request_id, request.slo_class.substr(0, kMaxNameBytes),
                               request.authorization, request.tenant};
  return route == Route::kChat ? ParseChatRequest(request.body, headers, Context())
                               : ParseCompletionRequest(request.body, headers, Context());
}

ParseContext HttpApi::Context() {
  return ParseContext{
      .tokenizer = parts_.tokenizer,
      .render_chat = parts_.render_chat,
      .ids = ids_,
      .model = parts_.service.model(),
      .limits = options_.limits,
      .timeout = options_.request_timeout,
      .now_unix_s = absl::ToUnixSeconds(absl::Now()),
      .on_unknown_field = [this](std::string_view field) { LogUnknownField(field); }};
}

std::string HttpApi::ChooseRequestId(const std::string& from_client) {
  const bool plain = std::all_of(from_client.begin(), from_client.end(),
                                 [](char c) { return c > 0x20 && c < 0x7F; });
  if (!from_client.empty() && plain && from_client.size() <= kMaxNameBytes) return from_client;
  return ids_.NextHex();
}

std::string HttpApi::ExtraLines(const std::string& request_id) const {
  std::string lines = absl::StrCat("x-request-id: ", request_id, "\r\n");
  if (!options_.cors_allow_origin.empty()) {
    absl::StrAppend(&lines, "Access-Control-Allow-Origin: ", options_.cors_allow_origin,
                    "\r\nAccess-Control-Expose-Headers: x-request-id\r\n");
  }
  return lines;
}

void HttpApi::LogUnknownField(std::string_view field) {
  {
    absl::MutexLock lock(&mutex_);
    if (unknown_fields_.size() >= kMaxUnknownFields) return;
    if (!unknown_fields_.emplace(field.substr(0, kMaxLoggedFieldBytes)).second) return;
  }
  parts_.logger.Info("unknown request field ignored",
                     {{"field", field.substr(0, kMaxLoggedFieldBytes)}});
}

}  // namespace baton
