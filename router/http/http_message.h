// HTTP requests and answers as plain data, and how answers look on the wire.
#pragma once

#include <string>
#include <string_view>
#include <utility>
#include <vector>

#include "router/openai/api_error.h"

namespace baton {

struct HttpRequest {
  std::string method;  // "GET"
  std::string path;    // without the query
  std::string body;
  bool keep_alive = true;
  bool chunked_ok = true;  // HTTP/1.1: the answer may use chunked transfer encoding
  // Headers that somebody reads; empty: absent.
  std::string request_id;     // x-request-id
  std::string slo_class;      // x-slo-class
  std::string authorization;  // never logged
  std::string tenant;         // of the API key in it, once that was checked
};

struct HttpResponse {
  int status = 200;
  std::string content_type = "application/json";
  std::string body;
  std::vector<std::pair<std::string, std::string>> headers;
};

// With Retry-After where the error names one.
HttpResponse ErrorResponse(const ApiError& error);

// How one exchange's answer is framed.
struct Framing {
  bool keep_alive = true;
  bool chunked = true;      // of a stream
  bool head_only = false;   // the request was HEAD
  std::string extra_lines;  // "x-request-id: …\r\n", each line ended
};

// Status line, headers and body.
std::string RenderResponse(const HttpResponse& response, const Framing& framing);
// The head of a server-sent event stream.
std::string RenderStreamHead(const Framing& framing);
// Appends `payload` (whole "data: …\n\n" events), as one chunk if `chunked`.
void AppendStreamBytes(std::string_view payload, bool chunked, std::string& out);
// Appends what ends a chunked body.
void AppendStreamEnd(bool chunked, std::string& out);

}  // namespace baton
