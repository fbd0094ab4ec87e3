// A blocking HTTP client for one answer: what `baton ask` and `baton top` need, no more.
#pragma once

#include <functional>
#include <string>
#include <string_view>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "absl/time/time.h"
#include "common/config.h"

namespace baton {

// How commands are told which server to talk to.
struct ServerSettings {
  std::string url = "http://127.0.0.1:8000";
  std::string api_key;
  std::string tls_ca;
};
// `url`, `api_key`, `tls_ca`. `what` ends the help of `url`: "the router".
void AddServerSettings(ConfigSchema& schema, ServerSettings* settings, const std::string& what);

struct HttpServerAddress {
  std::string host;
  std::string port;
  bool tls = false;
  std::string tls_ca;   // PEM file of authorities; empty: the system's
  std::string api_key;  // empty: none is sent
};

// From a URL such as "http://host:port" or "https://host:port".
absl::StatusOr<HttpServerAddress> ServerAddressOf(const ServerSettings& settings);

// The body that GET `path` answers. An answer other than 200 is an error that carries the server's
// message.
absl::StatusOr<std::string> FetchText(const HttpServerAddress& server, const std::string& path,
                                      absl::Duration timeout);

// POSTs `json_body` and calls `on_data` with the payload of each `data:` line as it arrives,
// "[DONE]" excluded. An answer other than 200 is an error that carries the server's message.
absl::Status PostForEvents(const HttpServerAddress& server, const std::string& path,
                           const std::string& json_body, absl::Duration timeout,
                           const std::function<void(std::string_view)>& on_data);

}  // namespace baton
