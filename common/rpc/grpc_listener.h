// The listening socket of a gRPC server, kept by us.
//
// gRPC 1.51's own listener stops for good when accepting fails once, and it fails when the process
// is out of descriptors for a moment: the server then lives on and nobody can reach it. This one
// waits and goes on.
#pragma once

#include <cstdint>
#include <memory>
#include <string>

#include "absl/status/statusor.h"

namespace grpc {
class ServerBuilder;
class ServerCredentials;
}  // namespace grpc

namespace baton {

class GrpcListener {
 public:
  // Binds the first address of `host` that can be bound and listens, and tells `builder` that
  // connections will come from here. `port`: 0 takes any. UNAVAILABLE names the address that cannot
  // be bound.
  static absl::StatusOr<std::unique_ptr<GrpcListener>> Bind(
      const std::string& host, int32_t port, std::shared_ptr<grpc::ServerCredentials> credentials,
      grpc::ServerBuilder& builder);
  virtual ~GrpcListener() = default;  // stops

  virtual int32_t port() const = 0;
  // After the server was built and started: accepts, on a thread of its own.
  virtual void Start() = 0;
  // Before the server shuts down: accepts no more and closes the port. Idempotent.
  virtual void Stop() = 0;
};

}  // namespace baton
