// The server under load, and how one request to it looks on the wire.
#pragma once

#include <string>
#include <string_view>
#include <utility>
#include <vector>

#include "absl/status/statusor.h"
#include "absl/time/time.h"
#include "bench/load/core/prompt.h"

namespace baton::load {

// "http://host:port/base": base is often empty or "/v1".
struct ServerUrl {
  std::string host;
  std::string port;
  std::string base_path;  // without "/v1" and without a slash at its end

  std::string Authority() const;                   // for the Host header
  std::string Path(std::string_view under) const;  // base_path + under, under = "/v1/models"
};

// https is refused: the client speaks no TLS.
absl::StatusOr<ServerUrl> ParseServerUrl(const std::string& text);

// "Name: value", checked so that it cannot break the request's framing.
absl::StatusOr<std::pair<std::string, std::string>> ParseHeader(const std::string& text);

struct Target {
  ServerUrl url;
  BodySpec body;
  std::vector<std::pair<std::string, std::string>> headers;  // sent with every request
  absl::Duration timeout = absl::Minutes(5);  // of a request, from its intended send time
};

std::string RenderGet(const Target& target, std::string_view path);
// `slo_class` empty: no header.
std::string RenderPost(const Target& target, std::string_view slo_class, std::string_view body);

}  // namespace baton::load
