// Two workers connect while their process has few descriptors left: from none to as many as it
// takes. UCX 1.13 dies of some of these numbers, and never recovers from others.
#include <fcntl.h>
#include <gtest/gtest.h>
#include <sys/resource.h>

#include <filesystem>

#include "absl/strings/match.h"
#include "tests/unit/kvtransfer/handoff_fixture.h"

namespace baton {
namespace {

int64_t OpenDescriptors() {
  using Files = std::filesystem::directory_iterator;
  return std::distance(Files("/proc/self/fd"), Files()) - 1;  // but for the one that lists
}

// Lowers the process's limit to the next `room` free numbers; lifts it when destroyed.
class DescriptorLimit {
 public:
  explicit DescriptorLimit(int room) {
    EXPECT_EQ(getrlimit(RLIMIT_NOFILE, &before_), 0);
    rlimit limit = before_;
    limit.rlim_cur = 0;
    for (int free = 0; free <= room; ++limit.rlim_cur) {
      free += fcntl(static_cast<int>(limit.rlim_cur), F_GETFD) < 0;
    }
    --limit.rlim_cur;
    EXPECT_EQ(setrlimit(RLIMIT_NOFILE, &limit), 0);
  }
  ~DescriptorLimit() { EXPECT_EQ(setrlimit(RLIMIT_NOFILE, &before_), 0); }
  DescriptorLimit(const DescriptorLimit&) = delete;
  DescriptorLimit& operator=(const DescriptorLimit&) = delete;

 private:
  rlimit before_ = {};
};

struct End final : ConnectionObserver {
  void OnMessage(Connection&, std::span<const std::byte>,
                 std::unique_ptr<IncomingPayload> payload) override {
    if (payload != nullptr) payload->Refuse();
    got = true;
  }
  void OnDisconnect(Connection&, absl::Status status) override {
    gone = true;
    reason = status;
  }
  std::unique_ptr<Connection> connection;
  bool got = false;
  bool gone = false;
  absl::Status reason;
};

class DescriptorLimitTest : public ::testing::TestWithParam<std::string> {
 protected:
  void SetUp() override {
    factory_ = testing::MakeFactory(GetParam());
    connector_ = factory_->Create().value();
    acceptor_ = factory_->Create().value();
    address_ = acceptor_
                   ->Listen("127.0.0.1", 0,
                            [this](std::unique_ptr<Connection> connection) {
                              accepted_ = std::make_unique<End>();
                              accepted_->connection = std::move(connection);
                              return accepted_.get();
                            })
                   .value();
  }
  // Connects and sends a message; returns whether it came in time.
  bool Try(absl::Duration patience, absl::Status& why) {
    End end;
    auto connection = connector_->Connect(address_, &end);
    if (!connection.ok()) {
      why = connection.status();
      return false;
    }
    end.connection = *std::move(connection);
    const std::byte header[] = {std::byte{1}};
    end.connection->Send(header, {}, [](absl::Status) {});
    const absl::Time give_up = clock_.Now() + patience;
    bool came = false;
    while (!came && !end.gone && clock_.Now() < give_up) {
      connector_->Progress();
      acceptor_->Progress();
      came = accepted_ != nullptr && accepted_->got;
    }
    why = end.reason;
    end.connection.reset();
    accepted_.reset();
    return came;
  }

  MonotonicClock clock_;
  std::unique_ptr<TransportFactory> factory_;
  std::unique_ptr<Transport> connector_;
  std::unique_ptr<Transport> acceptor_;
  PeerAddress address_;
  std::unique_ptr<End> accepted_;
};

TEST_P(DescriptorLimitTest, ConnectingEndsInAnErrorAndWorksAgainWithRoom) {
  absl::Status why;
  ASSERT_TRUE(Try(absl::Seconds(10), why)) << why;
  const int64_t before = OpenDescriptors();
  int refused = 0;
  int room = 0;
  for (bool came = false; !came; ++room) {
    SCOPED_TRACE(::testing::Message() << "room " << room);
    ASSERT_LT(room, 200);
    {
      const DescriptorLimit limit(room);
      came = Try(absl::Seconds(1), why);
    }
    if (absl::StrContains(why.message(), "file descriptors are left")) ++refused;
    ASSERT_TRUE(Try(absl::Seconds(10), why)) << why;
  }
  EXPECT_GT(refused, 10);
  EXPECT_EQ(OpenDescriptors(), before);
}

INSTANTIATE_TEST_SUITE_P(OverUcx, DescriptorLimitTest, ::testing::Values("tcp", "shm"),
                         [](const auto& param) { return param.param; });

}  // namespace
}  // namespace baton
