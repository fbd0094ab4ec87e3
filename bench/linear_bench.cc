// GFLOP/s and GB/s of the matrix products of one layer, by rows and by what the weights are.
//
//   linear_bench [--weights bf16,int8,int4] [--rows 1,8,32] [--threads N] [--seconds S]
//   [--resident]
//
// The four matrices of a layer are passed over in turn, each call on another copy, so that weights
// come from memory as they do in a model; --resident uses one copy, which stays in the caches if
// they hold it. Kinds of weights and rows are interleaved, round after round; what is printed is
// the fastest pass by wall-clock time, and the rate by CPU time. Then comes what a job of the pool
// costs beside its work: the median of jobs without any, back to back as in a step.
#include <algorithm>
#include <atomic>
#include <chrono>
#include <cstdio>
#include <ctime>
#include <iterator>
#include <limits>
#include <map>
#include <random>
#include <string>
#include <utility>
#include <vector>

#include "CLI/CLI.hpp"
#include "engine/kernels/aligned_buffer.h"
#include "engine/kernels/compute_pool.h"
#include "engine/kernels/isa.h"
#include "engine/kernels/kernel_table.h"
#include "engine/kernels/linear.h"

namespace baton {
namespace {

struct Shape {
  int32_t n = 0;
  int32_t k = 0;
  Epilogue epilogue = Epilogue::kStore;
};
// A layer of the 530 M model of bench/configs: q, k and v; output; gate and up; down.
constexpr Shape kLayer[] = {{1792, 1280, Epilogue::kStore},
                            {1280, 1280, Epilogue::kAddTo},
                            {7680, 1280, Epilogue::kSiluMul},
                            {1280, 3840, Epilogue::kAddTo}};
constexpr size_t kStreamedBytes = size_t{256} << 20;  // several times the largest cache

double Seconds(clockid_t clock) {
  timespec now{};
  clock_gettime(clock, &now);
  return static_cast<double>(now.tv_sec) + 1e-9 * static_cast<double>(now.tv_nsec);
}

PackedMatrix RandomMatrix(const Shape& shape, const PackFormat& format, std::minstd_rand* random) {
  PackedMatrix matrix(shape.n, shape.k, format);
  std::uniform_real_distribution<float> uniform(-1.0f, 1.0f);
  const auto k = static_cast<size_t>(shape.k);
  std::vector<float> values(k);
  std::vector<Bf16> rounded(k);
  for (size_t i = 0; i < k; ++i) {
    values[i] = uniform(*random);
    rounded[i] = ToBf16(values[i]);
  }
  for (int32_t panel = 0; panel < matrix.num_panels(); ++panel) {
    const int32_t rows = std::min(format.panel_columns, shape.n - panel * format.panel_columns);
    if (IsQuantized(format.element)) {
      matrix.PackPanel(panel, std::vector<const float*>(static_cast<size_t>(rows), values.data()));
    } else {
      matrix.PackPanel(panel, std::vector<const Bf16*>(static_cast<size_t>(rows), rounded.data()));
    }
  }
  return matrix;
}

// Copies of a layer in one kind of weights.
class Layers {
 public:
  Layers(const KernelTable& kernels, WeightElement element, bool resident) {
    std::minstd_rand random(1);
    int64_t bytes = 0;
    do {
      std::vector<PackedMatrix> layer;
      for (const Shape& shape : kLayer) {
        layer.push_back(RandomMatrix(shape, kernels.PackOf(element), &random));
        bytes += layer.back().bytes();
      }
      layers_.push_back(std::move(layer));
    } while (!resident && bytes < static_cast<int64_t>(kStreamedBytes));
    bytes_ = bytes / static_cast<int64_t>(layers_.size());
  }
  int64_t bytes() const { return bytes_; }  // of one layer

  // One pass over one layer.
  void Run(const OpContext& context, const AlignedBuffer& input, int32_t rows,
           AlignedBuffer* output, AlignedBuffer* scratch) {
    for (size_t i = 0; i < std::size(kLayer); ++i) {
      Linear(context, {.input = input.data(),
                       .weights = &layers_[next_][i],
                       .epilogue = kLayer[i].epilogue,
                       .output = output->data(),
                       .rows = rows,
                       .scratch = scratch});
    }
    next_ = (next_ + 1) % layers_.size();
  }

 private:
  std::vector<std::vector<PackedMatrix>> layers_;
  size_t next_ = 0;
  int64_t bytes_ = 0;
};

struct Timing {
  double fastest = std::numeric_limits<double>::infinity();  // s, one layer
  double cpu = 0;                                            // s, all threads
  int64_t passes = 0;
};

AlignedBuffer RandomInput(const KernelTable& kernels, int32_t rows, int32_t width) {
  std::minstd_rand random(2);
  std::uniform_real_distribution<float> uniform(-1.0f, 1.0f);
  const auto count = static_cast<size_t>(rows) * static_cast<size_t>(width);
  AlignedBuffer input(count * static_cast<size_t>(ActivationBytes(kernels.activation)));
  for (size_t i = 0; i < count; ++i) {
    const float value = uniform(random);
    if (kernels.activation == ActivationDtype::kBf16) {
      input.As<Bf16>()[i] = ToBf16(value);
    } else {
      input.As<float>()[i] = value;
    }
  }
  return input;
}

// Seconds of a job of `task`, one for each thread.
template <typename Task>
double MedianJob(ComputePool* pool, const Task& task) {
  constexpr int kJobs = 20000;
  std::vector<double> seconds;
  seconds.reserve(kJobs);
  for (int i = 0; i < kJobs; ++i) {
    const auto start = std::chrono::steady_clock::now();
    pool->RunInShares(pool->num_threads(), task);
    seconds.push_back(
        std::chrono::duration<double>(std::chrono::steady_clock::now() - start).count());
  }
  std::ranges::nth_element(seconds, seconds.begin() + kJobs / 2);
  return seconds[kJobs / 2];
}

// An empty job is over before another thread has seen it; a barrier is over when each has.
void PrintBarrier(ComputePool* pool) {
  const int32_t threads = pool->num_threads();
  std::atomic<int64_t> arrived = 0;
  const double empty = MedianJob(pool, [](int32_t, int32_t) {});
  const double barrier = MedianJob(pool, [&](int32_t, int32_t) {
    const int64_t all = (arrived.fetch_add(1) / threads + 1) * threads;
    while (arrived.load(std::memory_order_acquire) < all) {
    }
  });
  std::printf("a job of %d threads, median: %.2f us empty, %.2f us as a barrier of all\n", threads,
              1e6 * empty, 1e6 * barrier);
}

int Main(int argc, char** argv) {
  std::vector<std::string> kinds = {"bf16", "int8", "int4"};
  std::vector<int32_t> rows_list = {1, 2, 4, 8, 16, 32, 64, 192, 512};
  int32_t threads = 1;
  std::vector<int32_t> cpus;
  double seconds = 0.3;
  int rounds = 3;
  bool resident = false;
  std::string isa_name;
  CLI::App app("Speed of matrix products");
  app.add_option("--weights", kinds)->delimiter(',')->check(CLI::IsMember(kinds));
  app.add_option("--rows", rows_list)->delimiter(',')->check(CLI::Range(1, 4096));
  app.add_option("--threads", threads)->check(CLI::PositiveNumber);
  app.add_option("--cpus", cpus, "a CPU for each thread")->delimiter(',');
  app.add_option("--seconds", seconds, "for each kind and number of rows, in each round");
  app.add_option("--rounds", rounds);
  app.add_option("--isa", isa_name, "avx2, avx512 or avx512-bf16");
  app.add_flag("--resident", resident, "the same copy of the weights again and again");
  CLI11_PARSE(app, argc, argv);

  const auto isa = SelectIsa(isa_name);
  auto pool = ComputePool::Create(threads, cpus);
  if (!isa.ok() || !pool.ok() || !(*pool)->PinCaller().ok()) {
    std::fprintf(stderr, "linear_bench: %s\n",
                 (isa.ok() ? pool.status() : isa.status()).ToString().c_str());
    return 1;
  }
  const KernelTable& kernels = GetKernels(*isa, false);
  const OpContext context{kernels, **pool};
  const std::map<std::string, WeightElement> elements = {{"bf16", WeightElement::kBf16},
                                                         {"int8", WeightElement::kInt8},
                                                         {"int4", WeightElement::kInt4}};
  std::map<std::string, Layers> layers;
  for (const std::string& kind : kinds) {
    layers.emplace(kind, Layers(kernels, elements.at(kind), resident));
  }
  const int32_t most_rows = *std::max_element(rows_list.begin(), rows_list.end());
  const AlignedBuffer input = RandomInput(kernels, most_rows, 3840);
  AlignedBuffer output(static_cast<size_t>(most_rows) * 7680 * sizeof(float));
  AlignedBuffer scratch;

  std::map<std::pair<std::string, int32_t>, Timing> timings;
  for (int round = 0; round < rounds; ++round) {
    for (const int32_t rows : rows_list) {
      for (const std::string& kind : kinds) {
        Timing& timing = timings[{kind, rows}];
        const double end = Seconds(CLOCK_MONOTONIC) + seconds;
        double now = 0;
        do {
          const double start = Seconds(CLOCK_MONOTONIC);
          const double cpu = Seconds(CLOCK_PROCESS_CPUTIME_ID);
          layers.at(kind).Run(context, input, rows, &output, &scratch);
          now = Seconds(CLOCK_MONOTONIC);
          timing.fastest = std::min(timing.fastest, now - start);
          timing.cpu += Seconds(CLOCK_PROCESS_CPUTIME_ID) - cpu;
          ++timing.passes;
        } while (now < end);
      }
    }
  }
  double numbers = 0;
  for (const Shape& shape : kLayer) numbers += static_cast<double>(shape.n) * shape.k;
  std::printf("%s, %d threads, weights %s\n", std::string(IsaName(*isa)).c_str(), threads,
              resident ? "resident" : "from memory");
  std::printf("%-5s %5s %10s %8s %22s\n", "", "rows", "GFLOP/s", "GB/s", "GFLOP/s by CPU time");
  for (const std::string& kind : kinds) {
    for (const int32_t rows : rows_list) {
      const Timing& timing = timings[{kind, rows}];
      const double flop = 2 * numbers * rows;
      std::printf("%-5s %5d %10.1f %8.1f %22.1f\n", kind.c_str(), rows,
                  1e-9 * flop / timing.fastest,
                  1e-9 * static_cast<double>(layers.at(kind).bytes()) / timing.fastest,
                  1e-9 * flop * threads * static_cast<double>(timing.passes) / timing.cpu);
    }
  }
  PrintBarrier(pool->get());
  return 0;
}

}  // namespace
}  // namespace baton

int main(int argc, char** argv) { return baton::Main(argc, argv); }
