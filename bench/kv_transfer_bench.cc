// How fast KV moves between two processes of this machine.
//
//   kv_transfer_bench stream  [--transport shm|tcp]   GB/s by message size, beside ucx_perftest
//   kv_transfer_bench handoff [--transport shm|tcp]   whole handoffs: GB/s and exposed time
//
// Each figure of ucx_perftest (Debian package ucx-utils) is taken right behind ours, with the same
// transport and message size, several rounds in turn, because what a shared machine gives changes
// from second to second: compare the ratio, and the best of each.
#include <signal.h>
#include <sys/wait.h>
#include <unistd.h>

#include <algorithm>
#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <functional>
#include <memory>
#include <string>
#include <vector>

#include "absl/strings/numbers.h"
#include "absl/strings/str_cat.h"
#include "absl/strings/str_split.h"
#include "absl/synchronization/mutex.h"
#include "common/check.h"
#include "common/clock.h"
#include "kvtransfer/kv_receiver.h"
#include "kvtransfer/kv_sender.h"
#include "kvtransfer/stream_measure.h"
#include "kvtransfer/transport/checksum.h"
#include "kvtransfer/transport/machine_id.h"
#include "kvtransfer/transport/ucx_transport.h"

namespace baton {
namespace {

constexpr int kRounds = 5;

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

// ucx_perftest's active message bandwidth in GB/s (1e9 bytes), 0 when it cannot be run.
double Perftest(const std::string& transport, const StreamShape& shape, int port) {
  const std::string tls = transport == "shm" ? "posix,sysv,cma,tcp" : "tcp";
  const std::string device = transport == "shm" ? "" : "UCX_NET_DEVICES=lo ";
  const std::string common =
      absl::StrCat(device, "UCX_TLS=", tls, " timeout 30 ucx_perftest -p ", port, " ");
  const std::string command =
      absl::StrCat("(", common, ">/dev/null 2>&1 &) ; for i in 1 2 3 4 5 6 7 8 9; do r=$(", common,
                   "127.0.0.1 -t ucp_am_bw -f -w ", shape.num_messages / 4, " -n ",
                   shape.num_messages, " -s ", shape.message_bytes,
                   " 2>/dev/null | tail -1); case \"$r\" in *[0-9].*) echo \"$r\"; break;; esac; "
                   "sleep 0.2; done");
  FILE* pipe = popen(command.c_str(), "r");
  if (pipe == nullptr) return 0;
  char line[512] = {};
  const bool got = fgets(line, sizeof line, pipe) != nullptr;
  pclose(pipe);
  // -f prints: messages, latencies (3), bandwidth average and overall in MiB/s, message rates (2).
  const std::vector<std::string> fields =
      absl::StrSplit(line, absl::ByAnyChar(" \t\n"), absl::SkipEmpty());
  double mebibytes_per_second = 0;
  if (!got || fields.size() < 6 || !absl::SimpleAtod(fields[5], &mebibytes_per_second)) return 0;
  return mebibytes_per_second * 1048576 / 1e9;
}

void RunStream(const std::string& transport) {
  std::printf("stream over %s, GB/s (best and median of %d rounds)\n", transport.c_str(), kRounds);
  std::printf("%10s %10s %10s %12s %12s %14s %14s\n", "bytes", "ours", "median", "perftest",
              "median", "ratio (best)", "ratio (med.)");
  int port = 21'000 + getpid() % 1000;
  for (const int64_t bytes : {int64_t{16} << 10, int64_t{64} << 10, int64_t{256} << 10,
                              int64_t{1} << 20, int64_t{4} << 20}) {
    StreamShape shape;
    shape.message_bytes = bytes;
    shape.num_messages = std::clamp<int64_t>((int64_t{1} << 30) / bytes, 256, 8192);
    std::vector<double> ours;
    std::vector<double> theirs;
    for (int round = 0; round < kRounds; ++round) {
      ours.push_back(OurStream(transport, shape));
      theirs.push_back(Perftest(transport, shape, ++port));
    }
    std::sort(ours.begin(), ours.end());
    std::sort(theirs.begin(), theirs.end());
    const auto ratio = [](double a, double b) { return b > 0 ? a / b : 0; };
    std::printf("%10lld %10.2f %10.2f %12.2f %12.2f %14.2f %14.2f\n", static_cast<long long>(bytes),
                ours.back(), ours[kRounds / 2], theirs.back(), theirs[kRounds / 2],
                ratio(ours.back(), theirs.back()), ratio(ours[kRounds / 2], theirs[kRounds / 2]));
    std::fflush(stdout);
  }
}

// ---------------------------------------------------------------- handoffs

// A 512-token prompt of a 0.5 B-parameter model: 32 blocks of 16 KiB in each of 24 layers, 12 MiB.
const KvLayout kLayout{.num_layers = 24, .num_kv_heads = 4, .head_dim = 64, .block_size = 16};
constexpr int32_t kBlocksPerHandoff = 32;
constexpr int32_t kPoolBlocks = 256;
constexpr int kHandoffs = 100;

struct Memory {
  Memory() {
    region.layout = kLayout;
    region.num_blocks = kPoolBlocks;
    for (int32_t layer = 0; layer < kLayout.num_layers; ++layer) {
      bytes.emplace_back(static_cast<size_t>(kPoolBlocks * kLayout.BlockBytes()), std::byte{0x11});
      region.layer_base.push_back(bytes.back().data());
    }
  }
  KvRegion region;
  std::vector<std::vector<std::byte>> bytes;
};

// `spread` 1: neighbours; more: no two blocks of a handoff touch.
std::vector<BlockId> BlocksOf(int32_t spread) {
  std::vector<BlockId> blocks;
  for (int32_t i = 0; i < kBlocksPerHandoff; ++i) blocks.push_back(BlockId(i * spread));
  return blocks;
}

struct Invitation {
  int32_t port = 0;
  char ticket[56] = {};
};
struct HandoffFigures {
  double transfer_seconds = 0;
  double exposed_seconds = 0;
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

void ReceiveHandoffs(const std::string& transport, int32_t spread, int read_fd, int write_fd) {
  const MonotonicClock clock;
  Logger log("bench", LogLevel::kError, LogFormat::kText);
  MetricRegistry metrics;
  Memory memory;
  auto factory = Factory(transport);
  Waiter<ReceiverEvent> waiter;
  KvReceiverOptions options;
  options.region = memory.region;
  options.boot = BootId(1);
  auto receiver =
      KvReceiver::Create(options, *factory, clock, log, metrics, [&](ReceiverEvent event) {
        waiter.Add(std::move(event));
      }).value();
  for (int i = 0; i < kHandoffs; ++i) {
    ReadFrom<char>(read_fd);  // the sender is ready
    const Ticket ticket = receiver->Open({.key = {RequestId(static_cast<uint64_t>(i) + 1), 1},
                                          .blocks = BlocksOf(spread),
                                          .lease_deadline = clock.Now() + absl::Seconds(30)});
    Invitation invitation{receiver->address().port, {}};
    std::memcpy(invitation.ticket, EncodeTicket(ticket).data(), sizeof invitation.ticket);
    WriteTo(write_fd, invitation);
    const ReceiverEvent sealed = waiter.Take();
    const auto* what = std::get_if<ReceiverEvent::Sealed>(&sealed.what);
    BATON_CHECK(what != nullptr);
    waiter.Take();  // Released
    WriteTo(write_fd, HandoffFigures{absl::ToDoubleSeconds(what->stats.transfer),
                                     absl::ToDoubleSeconds(what->stats.exposed)});
  }
}

// Pushes a layer every `layer_gap`, as prefill would; zero: all at once.
std::vector<HandoffFigures> SendHandoffs(const std::string& transport, int32_t spread,
                                         absl::Duration layer_gap) {
  int to_child[2];
  BATON_CHECK(pipe(to_child) == 0);
  Child receiver([&](int fd) { ReceiveHandoffs(transport, spread, to_child[0], fd); });
  std::vector<HandoffFigures> figures;
  Child sender([&](int fd) {
    const MonotonicClock clock;
    Logger log("bench", LogLevel::kError, LogFormat::kText);
    MetricRegistry metrics;
    Memory memory;
    auto factory = Factory(transport);
    Waiter<SenderEvent> waiter;
    KvSenderOptions options;
    options.region = memory.region;
    options.boot = BootId(2);
    auto sender_shell =
        KvSender::Create(options, *factory, clock, log, metrics, [&](SenderEvent event) {
          waiter.Add(std::move(event));
        }).value();
    for (int i = 0; i < kHandoffs; ++i) {
      WriteTo(to_child[1], 'r');
      const auto invitation = ReadFrom<Invitation>(receiver.read_fd);
      const RequestKey key{RequestId(static_cast<uint64_t>(i) + 1), 1};
      sender_shell->Open({key,
                          DecodeTicket({invitation.ticket, sizeof invitation.ticket}).value(),
                          {"127.0.0.1", invitation.port, 1, LocalMachineId()},
                          clock.Now() + absl::Seconds(30)});
      for (int32_t layer = 0; layer < kLayout.num_layers; ++layer) {
        const absl::Time due = clock.Now() + layer_gap;
        while (clock.Now() < due) usleep(50);
        sender_shell->Push(key, layer, 0, BlocksOf(spread));
      }
      sender_shell->Finish(key, {{1}});
      waiter.Take();  // Delivered
      waiter.Take();  // Released
      WriteTo(fd, ReadFrom<HandoffFigures>(receiver.read_fd));
    }
  });
  for (int i = 0; i < kHandoffs; ++i) {
    figures.push_back(ReadFrom<HandoffFigures>(sender.read_fd));
  }
  close(to_child[0]);
  close(to_child[1]);
  return figures;
}

double Percentile(std::vector<double> values, double share) {
  std::sort(values.begin(), values.end());
  return values[static_cast<size_t>(share * static_cast<double>(values.size() - 1))];
}

// The checksum's share: what XXH3 alone needs for the bytes of one handoff, on one side.
double ChecksumSeconds() {
  Memory memory;
  const MonotonicClock clock;
  double best = 1e9;
  for (int round = 0; round < 20; ++round) {
    const absl::Time start = clock.Now();
    uint64_t sum = 0;
    for (int32_t layer = 0; layer < kLayout.num_layers; ++layer) {
      const MemorySpan span{memory.region.Block(layer, BlockId(0)),
                            static_cast<size_t>(kBlocksPerHandoff * kLayout.BlockBytes())};
      sum ^= ChecksumPieces(std::span(&span, 1));
    }
    best = std::min(best, absl::ToDoubleSeconds(clock.Now() - start));
    if (sum == 1) std::puts("");  // keeps the sum
  }
  return best;
}

void RunHandoff(const std::string& transport) {
  const double bytes =
      static_cast<double>(kLayout.BlockBytes()) * kBlocksPerHandoff * kLayout.num_layers;
  const double checksum = ChecksumSeconds();
  std::printf("handoffs over %s: %.1f MB each, %d of each kind\n", transport.c_str(), bytes / 1e6,
              kHandoffs);
  std::printf("%-34s %10s %10s %12s %12s %12s\n", "", "best GB/s", "p50 GB/s", "exposed p50",
              "exposed p90", "checksum");
  for (const bool paced : {false, true}) {
    for (const int32_t spread : {1, 2}) {
      const auto figures =
          SendHandoffs(transport, spread, paced ? absl::Milliseconds(4) : absl::ZeroDuration());
      std::vector<double> transfer;
      std::vector<double> exposed;
      for (const HandoffFigures& f : figures) {
        transfer.push_back(f.transfer_seconds);
        exposed.push_back(f.exposed_seconds);
      }
      const std::string name =
          absl::StrCat(paced ? "a layer every 4 ms" : "all at once",
                       spread == 1 ? ", neighbouring blocks" : ", scattered blocks");
      std::printf("%-34s %10.2f %10.2f %9.2f ms %9.2f ms %11.0f%%\n", name.c_str(),
                  bytes / Percentile(transfer, 0) / 1e9, bytes / Percentile(transfer, .5) / 1e9,
                  Percentile(exposed, .5) * 1e3, Percentile(exposed, .9) * 1e3,
                  100 * checksum / Percentile(transfer, 0));
      std::fflush(stdout);
    }
  }
}

int Main(int argc, char** argv) {
  std::string mode;
  std::vector<std::string> transports = {"shm", "tcp"};
  for (int i = 1; i < argc; ++i) {
    if (std::strcmp(argv[i], "--transport") == 0 && i + 1 < argc) {
      transports = {argv[++i]};
    } else {
      mode = argv[i];
    }
  }
  if (mode != "stream" && mode != "handoff") {
    std::fprintf(stderr, "usage: kv_transfer_bench stream|handoff [--transport shm|tcp]\n");
    return 2;
  }
  for (const std::string& transport : transports) {
    mode == "stream" ? RunStream(transport) : RunHandoff(transport);
  }
  return 0;
}

}  // namespace
}  // namespace baton

int main(int argc, char** argv) { return baton::Main(argc, argv); }
