// A worker process dies, or falls silent, in the middle of a transfer. Real processes, real UCX:
// the child is forked before this process has touched UCX.
#include <gtest/gtest.h>
#include <signal.h>
#include <sys/prctl.h>
#include <sys/wait.h>
#include <unistd.h>

#include <cstring>
#include <tuple>

#include "kvtransfer/core/wire.h"
#include "tests/unit/kvtransfer/handoff_fixture.h"

namespace baton {
namespace {

using testing::CountOf;
using testing::EventLog;
using testing::Key;
using testing::TestPool;

// 8 layers of 64 blocks of 256 KiB: 128 MiB, far more than can be in flight.
const KvLayout kLayout{.num_layers = 8, .num_kv_heads = 8, .head_dim = 128, .block_size = 64};
constexpr int32_t kNumBlocks = 64;
constexpr int64_t kWindowBytes = int64_t{8} << 20;
constexpr std::byte kFill{0x5a};

// What the processes tell each other: where the receiver is, and the ticket.
struct Invitation {
  int32_t port = 0;
  char machine_id[200] = {};
  char ticket[kTicketBytes] = {};
};

struct Pipe {
  Pipe() { EXPECT_EQ(pipe(ends), 0); }
  ~Pipe() {
    close(ends[0]);
    close(ends[1]);
  }
  template <typename T>
  bool Read(T& value) {
    return read(ends[0], &value, sizeof value) == static_cast<ssize_t>(sizeof value);
  }
  template <typename T>
  void Write(const T& value) {
    EXPECT_EQ(write(ends[1], &value, sizeof value), static_cast<ssize_t>(sizeof value));
  }
  int ends[2];
};

std::vector<BlockId> AllBlocks() {
  std::vector<BlockId> blocks;
  for (int32_t i = 0; i < kNumBlocks; ++i) blocks.push_back(BlockId(i));
  return blocks;
}

// One worker process: what both sides need.
struct Worker {
  explicit Worker(const std::string& transport) : factory(testing::MakeFactory(transport)) {}

  std::unique_ptr<KvReceiver> Receiver(absl::Duration peer_timeout) {
    KvReceiverOptions options;
    options.memory = JoinKvRegions({pool.region});
    options.boot = BootId(1);
    options.max_bytes_in_flight = kWindowBytes;
    options.peer_timeout = peer_timeout;
    return KvReceiver::Create(options, *factory, clock, log, metrics, received.Sink()).value();
  }
  std::unique_ptr<KvSender> Sender(absl::Duration peer_timeout) {
    KvSenderOptions options;
    options.memory = JoinKvRegions({pool.region});
    options.boot = BootId(2);
    options.max_bytes_in_flight = kWindowBytes;
    options.peer_timeout = peer_timeout;
    return KvSender::Create(options, *factory, clock, log, metrics, sent.Sink()).value();
  }
  Invitation Invite(KvReceiver& receiver) {
    const Ticket ticket = receiver.Open(
        {.key = Key(1), .blocks = AllBlocks(), .lease_deadline = clock.Now() + absl::Seconds(60)});
    Invitation invitation;
    invitation.port = receiver.address().port;
    std::strncpy(invitation.machine_id, receiver.address().machine_id.c_str(),
                 sizeof invitation.machine_id - 1);
    std::memcpy(invitation.ticket, EncodeTicket(ticket).data(), sizeof invitation.ticket);
    return invitation;
  }
  void PushAll(KvSender& sender, const Invitation& invitation) {
    const Ticket ticket = DecodeTicket({invitation.ticket, sizeof invitation.ticket}).value();
    const PeerAddress peer{"127.0.0.1", invitation.port, 1, invitation.machine_id};
    sender.Open({Key(1), ticket, peer, clock.Now() + absl::Seconds(60)});
    for (int32_t layer = 0; layer < kLayout.num_layers; ++layer) {
      sender.Push(Key(1), layer, 0, AllBlocks());
    }
    // No Finish: without the tail the handoff stays open until something ends it.
  }
  // Until the first block has landed.
  void WaitForBytes() const {
    const volatile std::byte* first = pool.region.Block(0, BlockId(0));
    while (*first != std::byte{0x77}) {
    }
  }

  MonotonicClock clock;
  Logger log{"test", LogLevel::kError, LogFormat::kText};
  MetricRegistry metrics;
  TestPool pool{kLayout, kNumBlocks};
  std::unique_ptr<TransportFactory> factory;
  EventLog<ReceiverEvent> received;
  EventLog<SenderEvent> sent;
};

class PeerDeathTest : public ::testing::TestWithParam<std::string> {
 protected:
  // Runs `body` in a child that then waits for its end.
  pid_t Fork(const std::function<void()>& body) {
    const pid_t child = fork();
    if (child == 0) {
      prctl(PR_SET_PDEATHSIG, SIGKILL);  // it goes with a test that times out
      body();
      while (true) pause();
    }
    return child;
  }
  void Kill(pid_t child) {
    EXPECT_EQ(kill(child, SIGKILL), 0);
    EXPECT_EQ(waitpid(child, nullptr, 0), child);
  }
  pid_t ForkSender() {
    return Fork([this] {
      Invitation invitation;
      if (!to_child_.Read(invitation)) _exit(1);
      Worker worker(GetParam());
      worker.pool.FillAll(std::byte{0x77});
      auto sender = worker.Sender(absl::Seconds(3));
      worker.PushAll(*sender, invitation);
      while (true) pause();
    });
  }
  static void ExpectLost(Worker& worker, absl::Duration within) {
    ASSERT_TRUE(worker.received.WaitFor(2, within));
    const auto events = worker.received.All();
    const auto* failed = std::get_if<ReceiverEvent::Failed>(&events[0].what);
    ASSERT_NE(failed, nullptr);
    EXPECT_EQ(failed->failure, HandoffFailure::kPeerLost) << failed->message;
    EXPECT_EQ(CountOf<ReceiverEvent::Released>(events, Key(1)), 1);
  }
  static void ExpectUntouched(const Worker& worker) {
    for (int look = 0; look < 3; ++look) ASSERT_TRUE(worker.pool.AllBytesAre(kFill));
  }

  Pipe to_child_;
  Pipe to_parent_;
};

TEST_P(PeerDeathTest, AKilledSenderFailsTheHandoffAndNeverWritesAgain) {
  const pid_t child = ForkSender();
  Worker worker(GetParam());
  auto receiver = worker.Receiver(absl::Seconds(3));
  to_child_.Write(worker.Invite(*receiver));
  worker.WaitForBytes();
  Kill(child);
  ExpectLost(worker, absl::Seconds(3));
  worker.pool.FillAll(kFill);
  ExpectUntouched(worker);
  receiver.reset();
  ExpectUntouched(worker);
}

TEST_P(PeerDeathTest, ASilentSenderIsGivenUpAndNeverWritesAgain) {
  const pid_t child = ForkSender();
  Worker worker(GetParam());
  auto receiver = worker.Receiver(absl::Milliseconds(300));
  to_child_.Write(worker.Invite(*receiver));
  worker.WaitForBytes();
  ASSERT_EQ(kill(child, SIGSTOP), 0);
  ExpectLost(worker, absl::Seconds(3));
  worker.pool.FillAll(kFill);
  ASSERT_EQ(kill(child, SIGCONT), 0);  // it goes on where it was
  ExpectUntouched(worker);
  Kill(child);
}

TEST_P(PeerDeathTest, AKilledReceiverFailsTheSend) {
  const pid_t child = Fork([this] {
    Worker worker(GetParam());
    auto receiver = worker.Receiver(absl::Seconds(3));
    to_parent_.Write(worker.Invite(*receiver));
    worker.WaitForBytes();
    to_parent_.Write('x');
    while (true) pause();
  });
  Invitation invitation;
  ASSERT_TRUE(to_parent_.Read(invitation));
  Worker worker(GetParam());
  worker.pool.FillAll(std::byte{0x77});
  auto sender = worker.Sender(absl::Seconds(3));
  worker.PushAll(*sender, invitation);
  char landed = 0;
  ASSERT_TRUE(to_parent_.Read(landed));
  Kill(child);
  ASSERT_TRUE(worker.sent.WaitFor(2, absl::Seconds(3)));
  const auto events = worker.sent.All();
  const auto* failed = std::get_if<SenderEvent::Failed>(&events[0].what);
  ASSERT_NE(failed, nullptr);
  EXPECT_EQ(failed->failure, HandoffFailure::kPeerLost) << failed->message;
  EXPECT_EQ(CountOf<SenderEvent::Released>(events, Key(1)), 1);
}

INSTANTIATE_TEST_SUITE_P(OverUcx, PeerDeathTest, ::testing::Values("tcp", "shm"),
                         [](const auto& param) { return param.param; });

}  // namespace
}  // namespace baton
