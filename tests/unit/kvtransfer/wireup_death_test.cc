// A worker process dies, or freezes, while the connection to it is still being made. (The
// conformance suite goes through the moments of connecting one by one, in one process; here the
// kernel ends the peer.) All children are forked before this process has touched UCX, and wait for
// their turn.
#include <gtest/gtest.h>
#include <signal.h>
#include <sys/wait.h>
#include <unistd.h>

#include "common/hash.h"
#include "tests/unit/kvtransfer/handoff_fixture.h"

namespace baton {
namespace {

constexpr int kDeaths = 16;
constexpr uint64_t kSeed = 5;

struct End final : ConnectionObserver {
  void OnMessage(Connection&, std::span<const std::byte>,
                 std::unique_ptr<IncomingPayload> payload) override {
    if (payload != nullptr) payload->Refuse();
  }
  void OnDisconnect(Connection&, absl::Status) override { gone = true; }
  std::unique_ptr<Connection> connection;
  bool gone = false;
};

// Sends what a worker sends first: some headers, then a payload large enough for rendezvous.
void SendFirstMessages(Connection& connection) {
  static std::vector<std::byte> payload(100'000);
  const std::byte header[] = {std::byte{1}};
  const MemorySpan span{payload.data(), payload.size()};
  for (int i = 0; i < 3; ++i) connection.Send(header, {}, [](absl::Status) {});
  connection.Send(header, std::span(&span, 1), [](absl::Status) {});
}

template <typename T>
T ReadFrom(int fd) {
  T value{};
  if (read(fd, &value, sizeof value) != static_cast<ssize_t>(sizeof value)) _exit(1);
  return value;
}
template <typename T>
void WriteTo(int fd, const T& value) {
  if (write(fd, &value, sizeof value) != static_cast<ssize_t>(sizeof value)) _exit(1);
}

struct Child {
  pid_t pid = -1;
  int to_child = -1;
  int from_child = -1;
};

void Kill(Child& child) {
  if (child.pid < 0) return;
  kill(child.pid, SIGKILL);
  EXPECT_EQ(waitpid(child.pid, nullptr, 0), child.pid);
  close(child.to_child);
  close(child.from_child);
  child.pid = -1;
}

// The children of a test; those that it leaves are killed with it.
struct Children {
  explicit Children(std::vector<Child> forked) : all(std::move(forked)) {}
  Children(const Children&) = delete;
  Children& operator=(const Children&) = delete;
  ~Children() {
    for (Child& child : all) Kill(child);
  }
  Child& operator[](int i) { return all[static_cast<size_t>(i)]; }
  std::vector<Child> all;
};

// Forks `count` children that run `body(in, out)` when their turn comes.
Children ForkAll(int count, const std::function<void(int in, int out)>& body) {
  std::vector<Child> children;
  for (int i = 0; i < count; ++i) {
    int down[2];
    int up[2];
    EXPECT_EQ(pipe(down), 0);
    EXPECT_EQ(pipe(up), 0);
    const pid_t pid = fork();
    if (pid == 0) {
      close(down[1]);
      close(up[0]);
      for (const Child& other : children) {  // a dead parent must end every child's read
        close(other.to_child);
        close(other.from_child);
      }
      body(down[0], up[1]);
      _exit(0);
    }
    close(down[0]);
    close(up[1]);
    children.push_back({pid, down[1], up[0]});
  }
  return Children(std::move(children));
}

class WireupDeathTest : public ::testing::TestWithParam<std::string> {
 protected:
  bool Drive(Transport& transport, const std::function<bool()>& reached) {
    const absl::Time give_up = clock_.Now() + absl::Seconds(10);
    while (!reached()) {
      transport.Progress();
      if (clock_.Now() > give_up) return false;
    }
    return true;
  }
  [[noreturn]] static void Serve(Transport& transport) {
    while (true) {
      if (!transport.Progress()) transport.Wait(absl::Milliseconds(1));
    }
  }
  static int RoundsBeforeDeath(int death) {
    return static_cast<int>(HashCombine(kSeed, static_cast<uint64_t>(death)) % 150);
  }
  MonotonicClock clock_;
};

TEST_P(WireupDeathTest, AnAcceptorThatDiesLeavesTheConnectorAlive) {
  Children children = ForkAll(kDeaths, [](int in, int out) {
    ReadFrom<char>(in);
    auto transport = testing::MakeFactory(GetParam())->Create().value();
    End end;
    const auto address =
        transport->Listen("127.0.0.1", 0, [&](std::unique_ptr<Connection> connection) {
          end.connection = std::move(connection);
          SendFirstMessages(*end.connection);
          return &end;
        });
    WriteTo(out, address->port);
    Serve(*transport);
  });
  auto factory = testing::MakeFactory(GetParam());
  auto transport = factory->Create().value();
  for (int death = 0; death < kDeaths; ++death) {
    SCOPED_TRACE(::testing::Message() << "seed " << kSeed << " death " << death);
    Child& child = children[death];
    WriteTo(child.to_child, 'g');
    const auto port = ReadFrom<int32_t>(child.from_child);
    End end;
    end.connection = transport->Connect({"127.0.0.1", port, 0, LocalMachineId()}, &end).value();
    SendFirstMessages(*end.connection);
    ASSERT_TRUE(Drive(*transport, [&] { return end.connection->transport_name() == GetParam(); }));
    for (int i = 0; i < RoundsBeforeDeath(death); ++i) transport->Progress();
    Kill(child);
    // Every other time the connection is destroyed before the death was noticed.
    if (death % 2 == 0) {
      ASSERT_TRUE(Drive(*transport, [&] { return end.gone; }));
    }
    end.connection.reset();
  }
}

TEST_P(WireupDeathTest, AConnectorThatDiesLeavesTheAcceptorAlive) {
  Children children = ForkAll(kDeaths, [](int in, int) {
    const auto port = ReadFrom<int32_t>(in);
    auto transport = testing::MakeFactory(GetParam())->Create().value();
    End end;
    end.connection = transport->Connect({"127.0.0.1", port, 0, LocalMachineId()}, &end).value();
    SendFirstMessages(*end.connection);
    Serve(*transport);
  });
  auto factory = testing::MakeFactory(GetParam());
  auto transport = factory->Create().value();
  std::unique_ptr<End> end;
  const PeerAddress address = transport
                                  ->Listen("127.0.0.1", 0,
                                           [&](std::unique_ptr<Connection> connection) {
                                             end = std::make_unique<End>();
                                             end->connection = std::move(connection);
                                             SendFirstMessages(*end->connection);
                                             return end.get();
                                           })
                                  .value();
  for (int death = 0; death < kDeaths; ++death) {
    SCOPED_TRACE(::testing::Message() << "seed " << kSeed << " death " << death);
    Child& child = children[death];
    WriteTo(child.to_child, address.port);
    ASSERT_TRUE(Drive(*transport, [&] { return end != nullptr; }));
    for (int i = 0; i < RoundsBeforeDeath(death) / 8; ++i) transport->Progress();
    Kill(child);
    if (death % 2 == 0) {
      ASSERT_TRUE(Drive(*transport, [&] { return end->gone; }));
    }
    end.reset();
  }
}

TEST_P(WireupDeathTest, APeerThatFreezesWhileConnectingCanBeGivenUp) {
  constexpr int kFreezes = 10;
  constexpr int kRoundsBetweenFreezes = 30;  // the handshake takes about 200
  Children children = ForkAll(kFreezes, [](int in, int out) {
    int rounds_left = ReadFrom<int>(in);
    auto transport = testing::MakeFactory(GetParam())->Create().value();
    End end;
    const auto address =
        transport->Listen("127.0.0.1", 0, [&](std::unique_ptr<Connection> connection) {
          end.connection = std::move(connection);
          return &end;
        });
    WriteTo(out, address->port);
    while (!transport->Progress()) {
    }
    while (rounds_left-- > 0) transport->Progress();
    raise(SIGSTOP);
  });
  auto factory = testing::MakeFactory(GetParam());
  auto transport = factory->Create().value();
  for (int freeze = 0; freeze < kFreezes; ++freeze) {
    SCOPED_TRACE(::testing::Message() << "freeze " << freeze);
    Child& child = children[freeze];
    WriteTo(child.to_child, freeze * kRoundsBetweenFreezes);
    const auto port = ReadFrom<int32_t>(child.from_child);
    End end;
    end.connection = transport->Connect({"127.0.0.1", port, 0, LocalMachineId()}, &end).value();
    SendFirstMessages(*end.connection);
    ASSERT_TRUE(Drive(
        *transport, [&] { return waitpid(child.pid, nullptr, WUNTRACED | WNOHANG) == child.pid; }));
    for (int i = 0; i < 300; ++i) transport->Progress();
    EXPECT_FALSE(end.gone);
    end.connection.reset();
    Kill(child);
  }
}

INSTANTIATE_TEST_SUITE_P(OverUcx, WireupDeathTest, ::testing::Values("tcp", "shm"),
                         [](const auto& param) { return param.param; });

}  // namespace
}  // namespace baton
