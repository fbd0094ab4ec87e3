#include "router/grpc/grpc_server.h"

#include <grpc/grpc.h>
#include <grpcpp/ext/proto_server_reflection_plugin.h>
#include <grpcpp/health_check_service_interface.h>
#include <grpcpp/impl/server_builder_option.h>
#include <grpcpp/impl/server_builder_plugin.h>
#include <grpcpp/resource_quota.h>
#include <grpcpp/server.h>
#include <grpcpp/server_builder.h>

#include <thread>
#include <utility>

#include "absl/synchronization/notification.h"
#include "common/check.h"
#include "common/rpc/grpc_listener.h"
#include "router/grpc/services.h"

namespace baton {
namespace {

int Milliseconds(absl::Duration duration) {
  return static_cast<int>(absl::ToInt64Milliseconds(duration));
}

// Takes out what the process-wide switch has put into every server.
class NoReflection final : public grpc::ServerBuilderOption {
 public:
  void UpdateArguments(grpc::ChannelArguments*) override {}
  void UpdatePlugins(std::vector<std::unique_ptr<grpc::ServerBuilderPlugin>>* plugins) override {
    std::erase_if(*plugins,
                  [](const auto& plugin) { return plugin->name() == "proto_server_reflection"; });
  }
};

class Server final : public GrpcServer {
 public:
  Server(GrpcServerOptions options, GrpcServerParts parts)
      : options_(std::move(options)),
        parts_(std::move(parts)),
        ids_(options_.id_seed),
        context_{options_, parts_, ids_},
        completion_(context_),
        models_(context_),
        tokenizer_(context_),
        control_(context_) {}

  ~Server() override { Stop(absl::ZeroDuration()); }

  absl::Status Start();
  uint16_t port() const override { return static_cast<uint16_t>(listener_->port()); }
  void Stop(absl::Duration drain_timeout) override;
  void PublishReadiness() override;

 private:
  void FollowReadiness();

  const GrpcServerOptions options_;
  const GrpcServerParts parts_;
  IdSource ids_;
  const GrpcContext context_;
  CompletionGrpc completion_;
  ModelsGrpc models_;
  TokenizerGrpc tokenizer_;
  ControlGrpc control_;
  std::unique_ptr<GrpcListener> listener_;
  std::unique_ptr<grpc::Server> server_;
  absl::Notification stop_;
  std::thread health_;
};

absl::Status Server::Start() {
  // Never undone: when the last user of the library goes, its shutdown may wait 10 s for a call
  // that was cut off (seen with gRPC 1.51), which would hold up the end of the process.
  grpc_init();
  // Both are process-wide switches of the gRPC library, safe to set again.
  grpc::EnableDefaultHealthCheckService(true);
  grpc::reflection::InitProtoReflectionServerBuilderPlugin();
  grpc::ServerBuilder builder;
  if (parts_.access != nullptr) builder.SetOption(std::make_unique<NoReflection>());
  ASSIGN_OR_RETURN(auto credentials, ServerCredentialsFrom(options_.tls));
  ASSIGN_OR_RETURN(
      listener_, GrpcListener::Bind(options_.host, options_.port, std::move(credentials), builder));
  builder.SetMaxReceiveMessageSize(options_.max_receive_bytes);
  grpc::ResourceQuota quota("completion front");
  quota.Resize(options_.max_memory_bytes);
  builder.SetResourceQuota(quota);
  builder.AddChannelArgument(GRPC_ARG_MAX_CONCURRENT_STREAMS, options_.max_streams_per_connection);
  builder.AddChannelArgument(GRPC_ARG_KEEPALIVE_TIME_MS, Milliseconds(options_.keepalive_time));
  builder.AddChannelArgument(GRPC_ARG_KEEPALIVE_TIMEOUT_MS,
                             Milliseconds(options_.keepalive_timeout));
  builder.AddChannelArgument(GRPC_ARG_HTTP2_MIN_RECV_PING_INTERVAL_WITHOUT_DATA_MS,
                             Milliseconds(options_.min_ping_interval));
  builder.AddChannelArgument(GRPC_ARG_KEEPALIVE_PERMIT_WITHOUT_CALLS, 1);
  builder.RegisterService(&completion_);
  builder.RegisterService(&models_);
  builder.RegisterService(&tokenizer_);
  builder.RegisterService(&control_);
  server_ = builder.BuildAndStart();
  if (server_ == nullptr) return absl::InternalError("gRPC does not start a server");
  listener_->Start();
  health_ = std::thread([this] { FollowReadiness(); });
  return absl::OkStatus();
}

void Server::PublishReadiness() {
  grpc::HealthCheckServiceInterface* const health = server_->GetHealthCheckService();
  const bool ready = parts_.service.readiness().phase == ReadyPhase::kReady;
  for (const char* name :
       {"", "baton.v1.Completion", "baton.v1.Models", "baton.v1.Tokenizer", "baton.v1.Control"}) {
    health->SetServingStatus(name, ready);
  }
}

// The service tells its readiness when asked, so health is as fresh as this loop's interval.
void Server::FollowReadiness() {
  do {
    PublishReadiness();
  } while (!stop_.WaitForNotificationWithTimeout(options_.health_interval));
}

void Server::Stop(absl::Duration drain_timeout) {
  if (server_ == nullptr || stop_.HasBeenNotified()) return;
  stop_.Notify();
  health_.join();
  listener_->Stop();
  server_->Shutdown(absl::ToChronoTime(absl::Now() + drain_timeout));
  server_->Wait();
}

}  // namespace

absl::StatusOr<std::unique_ptr<GrpcServer>> StartGrpcServer(GrpcServerOptions options,
                                                            GrpcServerParts parts) {
  auto server = std::make_unique<Server>(std::move(options), std::move(parts));
  RETURN_IF_ERROR(server->Start());
  return server;
}

}  // namespace baton
