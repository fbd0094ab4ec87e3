// Our own listening socket under a real gRPC server.
#include "common/rpc/grpc_listener.h"

#include <fcntl.h>
#include <grpcpp/channel.h>
#include <grpcpp/create_channel.h>
#include <grpcpp/generic/async_generic_service.h>
#include <grpcpp/security/credentials.h>
#include <grpcpp/security/server_credentials.h>
#include <grpcpp/server.h>
#include <grpcpp/server_builder.h>
#include <gtest/gtest.h>
#include <sys/resource.h>
#include <unistd.h>

#include <chrono>
#include <vector>

#include "absl/strings/str_cat.h"

namespace baton {
namespace {

using std::chrono::seconds;
using std::chrono::system_clock;

class ListeningServer {
 public:
  explicit ListeningServer(int32_t port = 0) {
    grpc::ServerBuilder builder;
    builder.RegisterCallbackGenericService(&service_);
    listener_ =
        GrpcListener::Bind("127.0.0.1", port, grpc::InsecureServerCredentials(), builder).value();
    server_ = builder.BuildAndStart();
    EXPECT_NE(server_, nullptr);
    listener_->Start();
  }
  ~ListeningServer() {
    listener_->Stop();
    server_->Shutdown(system_clock::now());
  }
  int32_t port() const { return listener_->port(); }
  std::shared_ptr<grpc::Channel> Channel() const {
    grpc::ChannelArguments arguments;
    arguments.SetInt(GRPC_ARG_USE_LOCAL_SUBCHANNEL_POOL, 1);  // a connection of its own
    arguments.SetInt(GRPC_ARG_MIN_RECONNECT_BACKOFF_MS, 20);
    arguments.SetInt(GRPC_ARG_INITIAL_RECONNECT_BACKOFF_MS, 20);
    arguments.SetInt(GRPC_ARG_MAX_RECONNECT_BACKOFF_MS, 20);
    return grpc::CreateCustomChannel(absl::StrCat("127.0.0.1:", port()),
                                     grpc::InsecureChannelCredentials(), arguments);
  }

 private:
  grpc::CallbackGenericService service_;  // refuses every call
  std::unique_ptr<GrpcListener> listener_;
  std::unique_ptr<grpc::Server> server_;
};

TEST(GrpcListener, TakesConnections) {
  const ListeningServer server;
  for (int i = 0; i < 5; ++i) {
    EXPECT_TRUE(server.Channel()->WaitForConnected(system_clock::now() + seconds(10)));
  }
}

TEST(GrpcListener, GoesOnWhenThereWasNoDescriptorForAConnection) {
  const ListeningServer server;
  ASSERT_TRUE(server.Channel()->WaitForConnected(system_clock::now() + seconds(10)));
  // A socket that the kernel connects and the server cannot accept.
  const auto waiting = server.Channel();
  std::vector<int> held;
  for (int fd = 0; (fd = open("/dev/null", O_RDONLY | O_CLOEXEC)) >= 0;) {
    held.push_back(fd);
    if (held.size() == 100'000) break;
    rlimit limit = {};
    ASSERT_EQ(getrlimit(RLIMIT_NOFILE, &limit), 0);
    if (limit.rlim_cur > 4096) {
      limit.rlim_cur = 4096;
      ASSERT_EQ(setrlimit(RLIMIT_NOFILE, &limit), 0);
    }
  }
  ASSERT_EQ(errno, EMFILE);
  close(held.back());  // the client's end
  held.pop_back();
  EXPECT_FALSE(waiting->WaitForConnected(system_clock::now() + std::chrono::milliseconds(500)));
  for (const int fd : held) close(fd);
  EXPECT_TRUE(waiting->WaitForConnected(system_clock::now() + seconds(10)));
  EXPECT_TRUE(server.Channel()->WaitForConnected(system_clock::now() + seconds(10)));
}

TEST(GrpcListener, ATakenPortIsAnError) {
  const ListeningServer server;
  grpc::ServerBuilder builder;
  const auto second =
      GrpcListener::Bind("127.0.0.1", server.port(), grpc::InsecureServerCredentials(), builder);
  EXPECT_TRUE(absl::IsUnavailable(second.status())) << second.status();
}

TEST(GrpcListener, APortIsFreeAgainOnceItsServerHasStopped) {
  int32_t port = 0;
  {
    const ListeningServer first;
    port = first.port();
    ASSERT_TRUE(first.Channel()->WaitForConnected(system_clock::now() + seconds(10)));
  }
  const ListeningServer second(port);
  EXPECT_TRUE(second.Channel()->WaitForConnected(system_clock::now() + seconds(10)));
}

}  // namespace
}  // namespace baton
