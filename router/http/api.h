// The routes of the HTTP server and what answers them. Knows nothing of sockets.
#pragma once

#include <optional>
#include <set>
#include <string>
#include <string_view>
#include <vector>

#include "absl/base/thread_annotations.h"
#include "absl/synchronization/mutex.h"
#include "router/front/id_source.h"
#include "router/http/http_message.h"
#include "router/http/http_server.h"

namespace baton {

enum class Route {
  kCompletions,
  kChat,
  kModels,
  kModel,  // /v1/models/{id}
  kTokenize,
  kDetokenize,
  kHealth,
  kLivez,
  kReadyz,
  kMetrics,
  kVersion,
  kLivePage,
  kCluster,
};

// Every route, for whoever must know that none is forgotten.
struct ServedRoute {
  std::string_view path;
  std::string_view method;
  std::optional<Access> needs;  // none: open to everybody
};
std::vector<ServedRoute> ServedRoutes();

// What the head of a request decides.
struct RouteDecision {
  Route route = Route::kLivez;
  std::optional<HttpResponse> answer;  // set: OPTIONS, or refused before the body is read
  std::string tenant;                  // of the caller's API key
};

// Thread-safe.
class HttpApi {
 public:
  // Both must outlive it.
  HttpApi(const HttpServerOptions& options, const HttpServerParts& parts);

  RouteDecision Decide(const HttpRequest& head) const;
  // True for the routes that become a CompletionCall; the others are answered by Answer.
  static bool IsCall(Route route) { return route == Route::kCompletions || route == Route::kChat; }
  HttpResponse Answer(Route route, const HttpRequest& request);
  ApiResult<ApiRequest> ParseCall(Route route, const HttpRequest& request);

  // The id that goes back in x-request-id: the client's if it can be echoed, else a new one.
  std::string ChooseRequestId(const std::string& from_client);
  // "x-request-id: …\r\n" and, by option, the CORS lines.
  std::string ExtraLines(const std::string& request_id) const;

 private:
  ParseContext Context();
  HttpResponse AnswerResult(ApiResult<std::string> result) const;
  HttpResponse AnswerModel(const HttpRequest& request) const;
  void LogUnknownField(std::string_view field);

  const HttpServerOptions& options_;
  const HttpServerParts& parts_;
  IdSource ids_;
  absl::Mutex mutex_;
  std::set<std::string, std::less<>> unknown_fields_ ABSL_GUARDED_BY(mutex_);
};

}  // namespace baton
