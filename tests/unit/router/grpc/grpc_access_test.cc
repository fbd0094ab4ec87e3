// API keys over gRPC: every method of every service of ours asks for one.
#include <google/protobuf/descriptor.h>
#include <grpcpp/channel.h>
#include <grpcpp/client_context.h>
#include <grpcpp/create_channel.h>
#include <gtest/gtest.h>

#include <set>

#include "absl/strings/str_cat.h"
#include "common/log.h"
#include "proto/baton/v1/completion.grpc.pb.h"
#include "router/grpc/grpc_server.h"
#include "tests/unit/router/byte_tokenizer.h"
#include "tests/unit/router/fake_completion_service.h"
#include "tests/unit/router/grpc/generic_call.h"

namespace baton {
namespace {

using Result = AccessDecision::Result;

class TwoKeys final : public AccessControl {
 public:
  AccessDecision Check(std::string_view authorization, Access needed) override {
    if (authorization.empty()) return {.result = Result::kNoKey};
    if (authorization == "Bearer admin") return {.tenant = "admins"};
    if (authorization != "Bearer user") return {.result = Result::kWrongKey};
    if (needed == Access::kAdmin) return {.result = Result::kNotAdmin};
    return {.tenant = "users"};
  }
};

class GrpcAccess : public ::testing::Test {
 protected:
  GrpcAccess() {
    GrpcServerOptions options;
    options.port = 0;
    server_ = StartGrpcServer(options, {.service = service_,
                                        .tokenizer = tokenizer_,
                                        .render_chat = {},
                                        .logger = logger_,
                                        .access = &keys_})
                  .value();
    channel_ = grpc::CreateChannel(absl::StrCat("127.0.0.1:", server_->port()),
                                   grpc::InsecureChannelCredentials());
  }
  ~GrpcAccess() override { server_->Stop(absl::ZeroDuration()); }

  // Calls a method with an empty message, whatever it takes.
  grpc::StatusCode Call(const std::string& method, const std::string& authorization) {
    grpc::ClientContext context;
    if (!authorization.empty()) context.AddMetadata("authorization", authorization);
    grpc::ByteBuffer response;
    return CallUnary(channel_, context, method, response).error_code();
  }

  FakeCompletionService service_;
  ByteTokenizer tokenizer_;
  Logger logger_{"test", LogLevel::kError, LogFormat::kText};
  TwoKeys keys_;
  std::unique_ptr<GrpcServer> server_;
  std::shared_ptr<grpc::Channel> channel_;
};

TEST_F(GrpcAccess, EachMethodAsksForAKey) {
  const google::protobuf::FileDescriptor* const file =
      google::protobuf::DescriptorPool::generated_pool()->FindFileByName(
          v1::CompletionRequest::descriptor()->file()->name());
  int methods = 0;
  for (int i = 0; i < file->service_count(); ++i) {
    const google::protobuf::ServiceDescriptor* const service = file->service(i);
    for (int m = 0; m < service->method_count(); ++m) {
      const std::string method =
          absl::StrCat("/", service->full_name(), "/", service->method(m)->name());
      SCOPED_TRACE(method);
      ++methods;
      EXPECT_EQ(Call(method, ""), grpc::StatusCode::UNAUTHENTICATED);
      EXPECT_EQ(Call(method, "Bearer wrong"), grpc::StatusCode::UNAUTHENTICATED);
      EXPECT_EQ(Call(method, "Bearer user") == grpc::StatusCode::PERMISSION_DENIED,
                service->name() == "Control");
    }
  }
  EXPECT_GE(methods, 9);
  EXPECT_TRUE(service_.submitted().empty());
}

TEST_F(GrpcAccess, HealthIsOpenAndReflectionIsOff) {
  EXPECT_EQ(Call("/grpc.health.v1.Health/Check", ""), grpc::StatusCode::OK);
  EXPECT_EQ(Call("/grpc.reflection.v1alpha.ServerReflection/ServerReflectionInfo", ""),
            grpc::StatusCode::UNIMPLEMENTED);
}

TEST_F(GrpcAccess, TheTenantOfTheKeyReachesTheRouter) {
  const auto stub = v1::Completion::NewStub(channel_);
  for (const std::string key : {"user", "admin"}) {
    grpc::ClientContext context;
    context.AddMetadata("authorization", "Bearer " + key);
    v1::CompletionRequest request;
    request.set_text("a");
    request.mutable_stopping()->set_max_tokens(2);
    v1::CompletionResponse response;
    ASSERT_TRUE(stub->Complete(&context, request, &response).ok());
  }
  const RoutedRequest user = service_.submitted().at(0);
  EXPECT_EQ(user.tenant, TenantOf({.tenant = "users"}));
  EXPECT_EQ(user.spec.cache_salt, CacheSaltOf({.tenant = "users"}));
  EXPECT_NE(user.spec.cache_salt, service_.submitted().at(1).spec.cache_salt);
}

}  // namespace
}  // namespace baton
