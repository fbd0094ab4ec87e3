// A small HTTP server for metrics and health: GET only, one thread, bounded.
#pragma once

#include <functional>
#include <memory>
#include <string>
#include <string_view>

#include "absl/status/statusor.h"
#include "absl/time/time.h"

namespace baton {

struct AdminResponse {
  int32_t status = 200;
  std::string content_type = "text/plain; charset=utf-8";
  std::string body;
};

struct AdminServerOptions {
  std::string host = "127.0.0.1";
  int32_t port = 0;  // 0: any
  int32_t max_connections = 64;
  int32_t max_header_bytes = 8192;  // and no body at all
  absl::Duration idle_timeout = absl::Seconds(30);
};

// It owns the thread "admin", on which `handler` is called with the path of each GET or HEAD
// (without the query). Destroying it closes every connection and joins.
class AdminServer {
 public:
  using Handler = std::function<AdminResponse(std::string_view path)>;
  // UNAVAILABLE names the address that cannot be bound.
  static absl::StatusOr<std::unique_ptr<AdminServer>> Start(const AdminServerOptions& options,
                                                            Handler handler);
  virtual ~AdminServer() = default;
  virtual int32_t port() const = 0;
};

}  // namespace baton
