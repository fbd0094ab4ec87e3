// How fast KV moves between two processes of this machine, one measurement a run.
//
//   kv_transfer_bench stream  --transport shm|tcp --bytes N [--messages N] [--window N]
//     GB/s of messages of one size, one number
//   kv_transfer_bench handoff --transport shm|tcp [--handoffs N] [--layer-gap-ms G] [--scattered]
//                             [--busy-threads N] [--verify]
//     whole handoffs of a 512-token prompt: GB/s, and how long each one was exposed (last layer
//     computed to sealed), one line. --busy-threads: so many threads of each process compute
//     meanwhile. --verify: every byte is compared
//
// bench/kv_transfer_compare.py runs it beside ucx_perftest and prints the ratios.
#include <signal.h>
#include <sys/wait.h>
#include <unistd.h>

#include <algorithm>
#include <atomic>
#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <functional>
#include <memory>
#include <string>
#include <thread>
#include <vector>

#include "CLI/CLI.hpp"
#include "absl/synchronization/mutex.h"
#include "common/check.h"
#include "common/clock.h"
#include "kvtransfer/core/wire.h"
#include "kvtransfer/kv_receiver.h"
#include "kvtransfer/kv_sender.h"
#include "kvtransfer/stream_measure.h"
#include "kvtransfer/transport/machine_id.h"
#include "kvtransfer/transport/ucx_transport.h"

namespace baton {
namespace {

std::unique_ptr<TransportFactory> Factory(const std::string& transport) {
  auto choice = ParseTransportChoice(transport);
  BATON_CHECK_OK(choice.status());
  auto factory = MakeUcxTransportFactory({*choice, LocalMachineId()});
  BATON_CHECK_OK(factory.status());
  return *std::move(factory);
}

// A child process and a pipe from it. The child leaves by _exit.
struct Child {
  explicit Child(const std::function<void(int write_fd)>& body) {
    int ends[2];
    BATON_CHECK(pipe(ends) == 0);
    pid = fork();
    BATON_CHECK(pid >= 0);
    if (pid == 0) {
      close(ends[0]);
      body(ends[1]);
      _exit(0);
    }
    close(ends[1]);
    read_fd = ends[0];
  }
  ~Child() {
    kill(pid, SIGKILL);
    waitpid(pid, nullptr, 0);
    close(read_fd);
  }
  pid_t pid = -1;
  int read_fd = -1;
};

template <typename T>
void WriteTo(int fd, const T& value) {
  BATON_CHECK(write(fd, &value, sizeof value) == static_cast<ssize_t>(sizeof value));
}
template <typename T>
T ReadFrom(int fd) {
  T value;
  BATON_CHECK(read(fd, &value, sizeof value) == static_cast<ssize_t>(sizeof value));
  return value;
}

// Everything that touches UCX runs in children, so that every fork is of a clean process.
double OurStream(const std::string& transport, const StreamShape& shape) {
  Child receiver([&](int fd) {
    const MonotonicClock clock;
    auto endpoint = Factory(transport)->Create().value();
    BATON_CHECK_OK(ReceiveStreams(*endpoint, "127.0.0.1", shape, clock,
                                  [&](const PeerAddress& at) { WriteTo(fd, at.port); }));
  });
  const auto port = ReadFrom<int32_t>(receiver.read_fd);
  Child sender([&](int fd) {
    const MonotonicClock clock;
    auto endpoint = Factory(transport)->Create().value();
    const auto result =
        SendStreams(*endpoint, {"127.0.0.1", port, 0, LocalMachineId()}, shape, clock);
    BATON_CHECK_OK(result.status());
    WriteTo(fd, result->gigabytes_per_second);
  });
  return ReadFrom<double>(sender.read_fd);
}

// ---------------------------------------------------------------- handoffs

// A 512-token prompt of a 0.5 B-parameter model: 32 blocks of 16 KiB in each of 24 layers, 12 MiB.
const KvLayout kLayout{.num_layers = 24, .num_kv_heads = 4, .head_dim = 64, .block_size = 16};
constexpr int32_t kBlocksPerHandoff = 32;
constexpr int32_t kPoolBlocks = 256;

struct HandoffShape {
  std::string transport = "shm";
  int handoffs = 100;
  absl::Duration layer_gap;  // a layer is computed in this time
  bool scattered = false;    // no two blocks of a handoff touch
  int busy_threads = 0;
  bool verify = false;
};

// What the byte at `offset` of a layer must be in handoff `i`.
std::byte Expected(int i, int32_t layer, size_t offset) {
  return static_cast<std::byte>(i * 31 + layer * 7 + static_cast<int>(offset * 2654435761u >> 24));
}

struct Memory {
  Memory() {
    region.layout = kLayout;
    region.num_blocks = kPoolBlocks;
    for (int32_t layer = 0; layer < kLayout.num_layers; ++layer) {
      bytes.emplace_back(static_cast<size_t>(kPoolBlocks * kLayout.BlockBytes()), std::byte{0x11});
      region.layer_base.push_back(bytes.back().data());
    }
  }
  void Fill(int handoff, const std::vector<BlockId>& blocks) {
    ForEachByte(handoff, blocks, false);
  }
  void Check(int handoff, const std::vector<BlockId>& blocks) {
    ForEachByte(handoff, blocks, true);
  }

  KvRegion region;
  std::vector<std::vector<std::byte>> bytes;

 private:
  void ForEachByte(int handoff, const std::vector<BlockId>& blocks, bool check) {
    const auto block_bytes = static_cast<size_t>(kLayout.BlockBytes());
    for (int32_t layer = 0; layer < kLayout.num_layers; ++layer) {
      for (size_t i = 0; i < blocks.size() * block_bytes; ++i) {
        std::byte& at = region.Block(layer, blocks[i / block_bytes])[i % block_bytes];
        const std::byte expected = Expected(handoff, layer, i);
        if (!check) at = expected;
        BATON_CHECK(at == expected) << "handoff " << handoff << " layer " << layer << " byte " << i;
      }
    }
  }
};

std::vector<BlockId> BlocksOf(const HandoffShape& shape) {
  std::vector<BlockId> blocks;
  blocks.reserve(kBlocksPerHandoff);
  for (int32_t i = 0; i < kBlocksPerHandoff; ++i) {
    blocks.push_back(BlockId(shape.scattered ? 2 * i : i));
  }
  return blocks;
}

// Threads that use the processor, as the engine of the same worker does.
class BusyThreads {
 public:
  explicit BusyThreads(int count) {
    for (int i = 0; i < count; ++i) {
      threads_.emplace_back([this] {
        while (!stop_.load(std::memory_order_relaxed)) {
        }
      });
    }
  }
  ~BusyThreads() {
    stop_ = true;
    for (std::thread& thread : threads_) thread.join();
  }

 private:
  std::atomic<bool> stop_ = false;
  std::vector<std::thread> threads_;
};

struct Invitation {
  int32_t port = 0;
  char ticket[kTicketBytes] = {};
};
struct HandoffFigures {
  double transfer_seconds = 0;
  double exposed_seconds = 0;
};
// When the receiver had sealed it; one clock for all processes of a machine.
struct Sealed {
  absl::Time at;
  double transfer_seconds = 0;
};

template <typename Event>
struct Waiter {
  void Add(Event event) {
    absl::MutexLock lock(&mutex);
    events.push_back(std::move(event));
  }
  Event Take() {
    absl::MutexLock lock(&mutex);
    mutex.Await(absl::Condition(
        +[](std::vector<Event>* e) { return !e->empty(); }, &events));
    Event event = std::move(events.front());
    events.erase(events.begin());
    return event;
  }
  absl::Mutex mutex;
  std::vector<Event> events;
};

void ReceiveHandoffs(const HandoffShape& shape, int read_fd, int write_fd) {
  const MonotonicClock clock;
  Logger log("bench", LogLevel::kError, LogFormat::kText);
  MetricRegistry metrics;
  Memory memory;
  auto factory = Factory(shape.transport);
  Waiter<ReceiverEvent> waiter;
  KvReceiverOptions options;
  options.memory = JoinKvRegions({memory.region});
  options.boot = BootId(1);
  std::vector<absl::Time> sealed_at(static_cast<size_t>(shape.handoffs) + 1);
  auto receiver =
      KvReceiver::Create(options, *factory, clock, log, metrics, [&](ReceiverEvent event) {
        if (std::holds_alternative<ReceiverEvent::Sealed>(event.what)) {
          sealed_at[event.key.request.value()] = clock.Now();
        }
        waiter.Add(std::move(event));
      }).value();
  const BusyThreads busy(shape.busy_threads);
  for (int i = 0; i < shape.handoffs; ++i) {
    ReadFrom<char>(read_fd);  // the sender is ready
    const RequestKey key{RequestId(static_cast<uint64_t>(i) + 1), 1};
    const Ticket ticket = receiver->Open(
        {.key = key, .blocks = BlocksOf(shape), .lease_deadline = clock.Now() + absl::Seconds(30)});
    Invitation invitation{receiver->address().port, {}};
    std::memcpy(invitation.ticket, EncodeTicket(ticket).data(), sizeof invitation.ticket);
    WriteTo(write_fd, invitation);
    const ReceiverEvent event = waiter.Take();
    const auto* what = std::get_if<ReceiverEvent::Sealed>(&event.what);
    BATON_CHECK(what != nullptr) << "a handoff failed";
    waiter.Take();  // Released
    if (shape.verify) memory.Check(i, BlocksOf(shape));
    WriteTo(write_fd,
            Sealed{sealed_at[key.request.value()], absl::ToDoubleSeconds(what->stats.transfer)});
  }
}

// Pushes layer after layer, as prefill does.
void SendHandoffs(const HandoffShape& shape, int to_receiver, int from_receiver, int report) {
  const MonotonicClock clock;
  Logger log("bench", LogLevel::kError, LogFormat::kText);
  MetricRegistry metrics;
  Memory memory;
  auto factory = Factory(shape.transport);
  Waiter<SenderEvent> waiter;
  KvSenderOptions options;
  options.memory = JoinKvRegions({memory.region});
  options.boot = BootId(2);
  auto sender = KvSender::Create(options, *factory, clock, log, metrics, [&](SenderEvent event) {
                  waiter.Add(std::move(event));
                }).value();
  const BusyThreads busy(shape.busy_threads);
  for (int i = 0; i < shape.handoffs; ++i) {
    if (shape.verify) memory.Fill(i, BlocksOf(shape));
    WriteTo(to_receiver, 'r');
    const auto invitation = ReadFrom<Invitation>(from_receiver);
    const RequestKey key{RequestId(static_cast<uint64_t>(i) + 1), 1};
    sender->Open({key,
                  DecodeTicket({invitation.ticket, sizeof invitation.ticket}).value(),
                  {"127.0.0.1", invitation.port, 1, LocalMachineId()},
                  clock.Now() + absl::Seconds(30)});
    absl::Time computed;
    for (int32_t layer = 0; layer < kLayout.num_layers; ++layer) {
      const absl::Time due = clock.Now() + shape.layer_gap;
      while (clock.Now() < due) usleep(50);
      computed = clock.Now();
      sender->Push(key, layer, 0, BlocksOf(shape));
    }
    sender->Finish(key, {{1}});
    waiter.Take();  // Delivered
    waiter.Take();  // Released
    const auto sealed = ReadFrom<Sealed>(from_receiver);
    WriteTo(report,
            HandoffFigures{sealed.transfer_seconds, absl::ToDoubleSeconds(sealed.at - computed)});
  }
}

double Percentile(std::vector<double> values, double share) {
  std::sort(values.begin(), values.end());
  return values[static_cast<size_t>(share * static_cast<double>(values.size() - 1))];
}

void RunHandoff(const HandoffShape& shape) {
  int to_receiver[2];
  BATON_CHECK(pipe(to_receiver) == 0);
  Child receiver([&](int fd) { ReceiveHandoffs(shape, to_receiver[0], fd); });
  Child sender([&](int fd) { SendHandoffs(shape, to_receiver[1], receiver.read_fd, fd); });
  std::vector<double> transfer;
  std::vector<double> exposed;
  for (int i = 0; i < shape.handoffs; ++i) {
    const auto figures = ReadFrom<HandoffFigures>(sender.read_fd);
    transfer.push_back(figures.transfer_seconds);
    exposed.push_back(figures.exposed_seconds);
  }
  const double bytes =
      static_cast<double>(kLayout.BlockBytes()) * kBlocksPerHandoff * kLayout.num_layers;
  std::printf("best_gbps %.2f p50_gbps %.2f exposed_ms first %.2f p50 %.2f p90 %.2f max %.2f\n",
              bytes / Percentile(transfer, 0) / 1e9, bytes / Percentile(transfer, .5) / 1e9,
              exposed[0] * 1e3, Percentile(exposed, .5) * 1e3, Percentile(exposed, .9) * 1e3,
              Percentile(exposed, 1) * 1e3);
}

int Main(int argc, char** argv) {
  CLI::App app("How fast KV moves between two processes");
  app.require_subcommand(1);
  std::string transport;
  StreamShape stream;
  HandoffShape handoff;
  double layer_gap_ms = 0;
  CLI::App* stream_mode = app.add_subcommand("stream");
  stream_mode->add_option("--transport", transport)->required();
  stream_mode->add_option("--bytes", stream.message_bytes)->required();
  stream_mode->add_option("--messages", stream.num_messages);
  stream_mode->add_option("--window", stream.window);
  CLI::App* handoff_mode = app.add_subcommand("handoff");
  handoff_mode->add_option("--transport", handoff.transport)->required();
  handoff_mode->add_option("--handoffs", handoff.handoffs);
  handoff_mode->add_option("--layer-gap-ms", layer_gap_ms);
  handoff_mode->add_option("--busy-threads", handoff.busy_threads);
  handoff_mode->add_flag("--scattered", handoff.scattered);
  handoff_mode->add_flag("--verify", handoff.verify);
  CLI11_PARSE(app, argc, argv);
  if (stream_mode->parsed()) {
    std::printf("%.3f\n", OurStream(transport, stream));
  } else {
    handoff.layer_gap = absl::Milliseconds(layer_gap_ms);
    RunHandoff(handoff);
  }
  return 0;
}

}  // namespace
}  // namespace baton

int main(int argc, char** argv) { return baton::Main(argc, argv); }
