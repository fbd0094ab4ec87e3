// A blocking HTTP client for one answer: what `baton ask` and `baton top` need, no more.
#pragma once

#include <functional>
#include <string>
#include <string_view>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "absl/time/time.h"

namespace baton {

struct HttpUrl {
  std::string host;
  std::string port;
};

// "http://host:port"; https is refused.
absl::StatusOr<HttpUrl> ParseHttpUrl(const std::string& url);

// The body that GET `path` answers. An answer other than 200 is an error that carries the server's
// message.
absl::StatusOr<std::string> FetchText(const HttpUrl& url, const std::string& path,
                                      absl::Duration timeout);

// POSTs `json_body` and calls `on_data` with the payload of each `data:` line as it arrives,
// "[DONE]" excluded. An answer other than 200 is an error that carries the server's message.
absl::Status PostForEvents(const HttpUrl& url, const std::string& path,
                           const std::string& json_body, absl::Duration timeout,
                           const std::function<void(std::string_view)>& on_data);

}  // namespace baton
