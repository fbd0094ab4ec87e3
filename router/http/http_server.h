// The OpenAI-compatible HTTP server: asynchronous, few threads, one strand for each connection.
#pragma once

#include <cstdint>
#include <memory>
#include <string>
#include <string_view>

#include "absl/status/statusor.h"
#include "absl/time/time.h"
#include "common/log.h"
#include "common/metrics.h"
#include "common/rpc/tls_files.h"
#include "engine/tokenizer/tokenizer.h"
#include "router/completion_service.h"
#include "router/front/access.h"
#include "router/front/limits.h"
#include "router/openai/request.h"

namespace baton {

struct HttpServerOptions {
  std::string host = "127.0.0.1";  // an address, not a name
  uint16_t port = 8000;            // 0: any free one
  TlsFiles tls;                    // empty: plain HTTP
  int io_threads = 1;
  std::string version;   // for /version
  uint64_t id_seed = 0;  // of request ids and of seeds that clients leave to us

  RequestLimits limits;
  uint64_t max_body_bytes = 8u << 20;
  uint32_t max_header_bytes = 16u << 10;
  size_t max_header_count = 100;
  // More are answered 503, or just closed when very many come at once.
  size_t max_connections = 16384;
  // Of bodies that are not parsed yet, all connections together; small bodies are not counted.
  uint64_t max_waiting_body_bytes = 256u << 20;
  // What may wait for a slow reader of a stream, beyond the kernel's buffers.
  size_t max_output_bytes = 1u << 20;

  absl::Duration head_timeout = absl::Seconds(15);   // from a request's first byte
  absl::Duration body_timeout = absl::Seconds(60);   // from the head's end
  absl::Duration idle_timeout = absl::Seconds(75);   // between requests
  absl::Duration write_timeout = absl::Seconds(10);  // without one byte taken by the client
  // An answer's remainder must be taken at this rate, and write_timeout more.
  uint64_t min_read_bytes_per_s = 8u << 10;
  absl::Duration linger_timeout = absl::Seconds(2);    // reading on after an answer that closes
  absl::Duration request_timeout = absl::Minutes(10);  // RoutedRequest::timeout
  absl::Duration sse_ping_interval;                    // zero: no ": ping" comments

  std::string cors_allow_origin;  // empty: no CORS headers
};

// All must outlive the server.
struct HttpServerParts {
  CompletionService& service;
  const Tokenizer& tokenizer;
  ChatRenderer render_chat;  // empty: the model has no chat template
  MetricRegistry& metrics;
  Logger& logger;
  AccessControl* access = nullptr;  // null: everybody may call
};

class HttpServer {
 public:
  virtual ~HttpServer() = default;  // stops without draining
  virtual uint16_t port() const = 0;
  // Accepts no more, lets running requests end for up to `drain_timeout`, cancels what is left and
  // joins the threads. Idempotent. Not from a server thread.
  virtual void Stop(absl::Duration drain_timeout) = 0;
};

// Listens and serves. UNAVAILABLE when the port is taken, INVALID_ARGUMENT for a bad address.
absl::StatusOr<std::unique_ptr<HttpServer>> StartHttpServer(HttpServerOptions options,
                                                            HttpServerParts parts);

// Whether a server could listen there now; else why not, as it would say.
absl::Status CheckCanListen(std::string_view protocol, const std::string& host, uint16_t port);

}  // namespace baton
