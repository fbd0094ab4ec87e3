// What this machine can do at most, to hold measured speeds against: reading memory, and the three
// multiply-add instructions of the kernels on registers alone.
//
//   cpu_limits [--cpus 0,1] [--seconds 0.2]
//
// One JSON object a line, for one thread and for one on each CPU: the best of short bursts, since
// other processes may hold the cores. A limit whose instruction this CPU lacks is null.
#include <immintrin.h>
#include <pthread.h>
#include <sys/mman.h>

#include <CLI/CLI.hpp>
#include <algorithm>
#include <barrier>
#include <chrono>
#include <cstdint>
#include <cstdio>
#include <cstring>
#include <functional>
#include <string>
#include <thread>
#include <vector>

namespace baton {
namespace {

constexpr size_t kReadBytes = size_t{512} << 20;  // in all threads; far more than any cache
constexpr int64_t kMultiplySteps = 1'000'000;     // about 5 ms
constexpr int kAccumulators = 16;                 // hide the latency of a multiply-add
constexpr size_t kVectorBytes = 64;

// Inline assembly: what is counted is what runs.
struct Fp32Fma {
  static constexpr double kOps = 2 * 16;
  [[gnu::target("avx512f"), gnu::always_inline]] static void Step(__m512i& c, __m512i a) {
    asm volatile("vfmadd231ps %1, %1, %0" : "+v"(c) : "v"(a));
  }
};
struct Bf16Dot {
  static constexpr double kOps = 2 * 32;
  [[gnu::target("avx512f"), gnu::always_inline]] static void Step(__m512i& c, __m512i a) {
    asm volatile("vdpbf16ps %1, %1, %0" : "+v"(c) : "v"(a));
  }
};
struct Int8Dot {
  static constexpr double kOps = 2 * 64;
  [[gnu::target("avx512f"), gnu::always_inline]] static void Step(__m512i& c, __m512i a) {
    asm volatile("vpdpbusd %1, %1, %0" : "+v"(c) : "v"(a));
  }
};

// Returns operations done.
template <typename Op>
[[gnu::target("avx512f")]] double Multiply() {
  __m512i sums[kAccumulators];
#pragma GCC unroll 16
  for (int i = 0; i < kAccumulators; ++i) sums[i] = _mm512_setzero_si512();
  const __m512i factor = _mm512_set1_epi32(0x3c003c00);  // 2^-7 as f32 and as two bf16
  for (int64_t step = 0; step < kMultiplySteps; ++step) {
#pragma GCC unroll 16
    for (int i = 0; i < kAccumulators; ++i) Op::Step(sums[i], factor);
  }
  return Op::kOps * kAccumulators * static_cast<double>(kMultiplySteps);
}

// Reads [data, data + bytes) as `kStreams` streams side by side; returns bytes read.
template <int kStreams>
[[gnu::target("avx512f")]] double ReadMemory(const std::byte* data, size_t bytes) {
  const size_t stride = bytes / kStreams;
  __m512i sum = _mm512_setzero_si512();
  for (size_t offset = 0; offset < stride; offset += 4 * kVectorBytes) {
#pragma GCC unroll 8
    for (size_t stream = 0; stream < kStreams; ++stream) {
#pragma GCC unroll 4
      for (size_t i = 0; i < 4; ++i) {
        const std::byte* p = data + stream * stride + offset + i * kVectorBytes;
        sum = _mm512_or_si512(sum, _mm512_load_si512(p));
      }
    }
  }
  asm volatile("" : : "v"(sum));
  return static_cast<double>(bytes);
}

void Pin(int cpu) {
  cpu_set_t set;
  CPU_ZERO(&set);
  CPU_SET(cpu, &set);
  if (pthread_setaffinity_np(pthread_self(), sizeof(set), &set) != 0) {
    std::fprintf(stderr, "cannot pin a thread to CPU %d\n", cpu);
    std::exit(1);
  }
}

using Work = std::function<double(size_t thread)>;  // returns how much it did

// The most that one thread on each of `cpus` does in a second, all at once, in a burst.
double BestRate(const std::vector<int>& cpus, double seconds, const Work& work) {
  using Clock = std::chrono::steady_clock;
  const auto size = static_cast<ptrdiff_t>(cpus.size());
  std::barrier start(size);
  std::barrier end(size);
  std::vector<double> done(cpus.size());
  double best = 0;
  bool stop = false;  // written by thread 0 before `start`
  const auto loop = [&](size_t thread) {
    Pin(cpus[thread]);
    const Clock::time_point deadline = Clock::now() + std::chrono::duration_cast<Clock::duration>(
                                                          std::chrono::duration<double>(seconds));
    while (true) {
      if (thread == 0) stop = Clock::now() >= deadline;
      start.arrive_and_wait();
      if (stop) return;
      const Clock::time_point begin = Clock::now();
      done[thread] = work(thread);
      end.arrive_and_wait();
      if (thread != 0) continue;
      const std::chrono::duration<double> took = Clock::now() - begin;
      double sum = 0;
      for (const double part : done) sum += part;
      best = std::max(best, sum / took.count());
    }
  };
  std::vector<std::thread> threads;
  for (size_t i = 0; i < cpus.size(); ++i) threads.emplace_back(loop, i);
  for (std::thread& thread : threads) thread.join();
  return best;
}

std::string Giga(bool available, const std::function<double()>& rate) {
  if (!available) return "null";
  char text[32];
  std::snprintf(text, sizeof(text), "%.1f", 1e-9 * rate());
  return text;
}

void PrintLimits(const std::vector<int>& cpus, double seconds, const std::byte* memory) {
  const bool avx512 = __builtin_cpu_supports("avx512f");
  const bool bf16 = avx512 && __builtin_cpu_supports("avx512bf16");
  const bool vnni = avx512 && __builtin_cpu_supports("avx512vnni");
  const size_t share = kReadBytes / cpus.size() / 4096 * 4096;
  const auto read = [&] {
    const double one = BestRate(cpus, seconds, [&](size_t thread) {
      return ReadMemory<1>(memory + thread * share, share);
    });
    const double four = BestRate(cpus, seconds, [&](size_t thread) {
      return ReadMemory<4>(memory + thread * share, share);
    });
    return std::max(one, four);
  };
  const auto multiply = [&](double (*fn)()) {
    return [&cpus, seconds, fn] { return BestRate(cpus, seconds, [fn](size_t) { return fn(); }); };
  };
  std::printf(
      "{\"threads\": %zu, \"read_gb_per_s\": %s, \"fp32_gflop_per_s\": %s, "
      "\"bf16_gflop_per_s\": %s, \"int8_gop_per_s\": %s}\n",
      cpus.size(), Giga(avx512, read).c_str(), Giga(avx512, multiply(&Multiply<Fp32Fma>)).c_str(),
      Giga(bf16, multiply(&Multiply<Bf16Dot>)).c_str(),
      Giga(vnni, multiply(&Multiply<Int8Dot>)).c_str());
  std::fflush(stdout);
}

int Main(int argc, char** argv) {
  std::vector<int> cpus = {0};
  double seconds = 0.2;
  CLI::App app("What this machine can do at most");
  app.add_option("--cpus", cpus, "CPUs to use, one thread on each")
      ->delimiter(',')
      ->check(CLI::Range(0, CPU_SETSIZE - 1));
  app.add_option("--seconds", seconds, "time for each limit")->check(CLI::PositiveNumber);
  CLI11_PARSE(app, argc, argv);
  __builtin_cpu_init();
  void* mapping =
      mmap(nullptr, kReadBytes, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
  if (mapping == MAP_FAILED) {
    std::perror("cannot map the memory to read");
    return 1;
  }
  madvise(mapping, kReadBytes, MADV_HUGEPAGE);
  std::memset(mapping, 1, kReadBytes);
  const auto* memory = static_cast<const std::byte*>(mapping);
  PrintLimits({cpus[0]}, seconds, memory);
  if (cpus.size() > 1) PrintLimits(cpus, seconds, memory);
  return 0;
}

}  // namespace
}  // namespace baton

int main(int argc, char** argv) { return baton::Main(argc, argv); }
