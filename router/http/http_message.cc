#include "router/http/http_message.h"

#include "absl/strings/str_cat.h"
#include "common/strings.h"

namespace baton {
namespace {

std::string_view ReasonPhrase(int status) {
  constexpr std::pair<int, std::string_view> kPhrases[] = {{200, "OK"},
                                                           {204, "No Content"},
                                                           {400, "Bad Request"},
                                                           {401, "Unauthorized"},
                                                           {403, "Forbidden"},
                                                           {404, "Not Found"},
                                                           {405, "Method Not Allowed"},
                                                           {408, "Request Timeout"},
                                                           {413, "Payload Too Large"},
                                                           {417, "Expectation Failed"},
                                                           {429, "Too Many Requests"},
                                                           {431, "Request Header Fields Too Large"},
                                                           {499, "Request Aborted"},
                                                           {500, "Internal Server Error"},
                                                           {501, "Not Implemented"},
                                                           {503, "Service Unavailable"},
                                                           {504, "Gateway Timeout"},
                                                           {505, "HTTP Version Not Supported"}};
  for (const auto& [code, phrase] : kPhrases) {
    if (code == status) return phrase;
  }
  return "Unknown";
}

}  // namespace

HttpResponse ErrorResponse(const ApiError& error) {
  HttpResponse response{.status = error.http_status, .body = RenderError(error)};
  if (error.retry_after_s > 0) {
    response.headers.emplace_back("Retry-After", absl::StrCat(error.retry_after_s));
  }
  return response;
}

std::string RenderResponse(const HttpResponse& response, const Framing& framing) {
  std::string out =
      absl::StrCat("HTTP/1.1 ", response.status, " ", View(ReasonPhrase(response.status)), "\r\n");
  // 204 has no body and must not claim one.
  if (response.status != 204) {
    absl::StrAppend(&out, "Content-Type: ", response.content_type,
                    "\r\nContent-Length: ", response.body.size(), "\r\n");
  }
  for (const auto& [name, value] : response.headers) {
    absl::StrAppend(&out, name, ": ", value, "\r\n");
  }
  absl::StrAppend(
      &out, framing.extra_lines,
      framing.keep_alive ? "Connection: keep-alive\r\n\r\n" : "Connection: close\r\n\r\n");
  if (!framing.head_only && response.status != 204) out += response.body;
  return out;
}

std::string RenderStreamHead(const Framing& framing) {
  return absl::StrCat(
      "HTTP/1.1 200 OK\r\nContent-Type: text/event-stream\r\nCache-Control: no-cache\r\n"
      "X-Accel-Buffering: no\r\n",
      framing.chunked ? "Transfer-Encoding: chunked\r\n" : "", framing.extra_lines,
      framing.keep_alive ? "Connection: keep-alive\r\n\r\n" : "Connection: close\r\n\r\n");
}

void AppendStreamBytes(std::string_view payload, bool chunked, std::string& out) {
  if (payload.empty()) return;  // an empty chunk would end the body
  if (chunked) absl::StrAppend(&out, absl::Hex(payload.size()), "\r\n");
  out += payload;
  if (chunked) out += "\r\n";
}

void AppendStreamEnd(bool chunked, std::string& out) {
  if (chunked) out += "0\r\n\r\n";
}

}  // namespace baton
