// The gRPC front: baton.v1 Completion, Models, Tokenizer and Control, grpc.health.v1 and server
// reflection, on gRPC's callback API. Where API keys are asked for, health stays open and
// reflection is off.
#pragma once

#include <cstdint>
#include <memory>
#include <string>

#include "absl/status/statusor.h"
#include "absl/time/time.h"
#include "common/log.h"
#include "common/rpc/tls_files.h"
#include "engine/tokenizer/tokenizer.h"
#include "router/completion_service.h"
#include "router/front/access.h"
#include "router/front/limits.h"
#include "router/openai/request.h"

namespace baton {

struct GrpcServerOptions {
  std::string host = "127.0.0.1";
  uint16_t port = 9000;  // 0: any free one
  TlsFiles tls;
  uint64_t id_seed = 0;  // of request ids and of seeds that clients leave to us

  RequestLimits limits;
  int max_receive_bytes = 16 << 20;
  // Of all connections: messages are received whole before anybody asks for their key.
  size_t max_memory_bytes = size_t{512} << 20;
  int max_streams_per_connection = 1024;
  size_t max_output_bytes = 1u << 20;  // what may wait for a slow reader of a stream
  // What is left of a stream once its request has ended must have gone out by then.
  absl::Duration write_timeout = absl::Seconds(10);
  // The longest deadline; a client's own, if earlier, goes before it.
  absl::Duration request_timeout = absl::Minutes(10);
  absl::Duration keepalive_time = absl::Seconds(30);     // silence before we ping
  absl::Duration keepalive_timeout = absl::Seconds(10);  // without an answer: the client is gone
  absl::Duration min_ping_interval = absl::Seconds(10);  // that clients may ping us at
  absl::Duration health_interval = absl::Milliseconds(200);  // how stale grpc.health.v1 may be
};

// All must outlive the server.
struct GrpcServerParts {
  CompletionService& service;
  const Tokenizer& tokenizer;
  ChatRenderer render_chat;  // empty: the model has no chat template
  Logger& logger;
  AccessControl* access = nullptr;  // null: everybody may call
};

class GrpcServer {
 public:
  virtual ~GrpcServer() = default;  // stops without draining
  virtual uint16_t port() const = 0;
  // Accepts no more, lets running calls end for up to `drain_timeout`, cancels what is left.
  // Idempotent.
  virtual void Stop(absl::Duration drain_timeout) = 0;
  // Brings grpc.health.v1 up to date now rather than within `health_interval`: for a caller that is
  // about to tell somebody that the server is ready.
  virtual void PublishReadiness() = 0;
};

// UNAVAILABLE when the port is taken. Health says NOT_SERVING until the service is ready.
absl::StatusOr<std::unique_ptr<GrpcServer>> StartGrpcServer(GrpcServerOptions options,
                                                            GrpcServerParts parts);

}  // namespace baton
