#include "engine/kernels/compute_pool.h"

#include <immintrin.h>
#include <pthread.h>
#include <sched.h>

#include <chrono>

#include "absl/strings/str_cat.h"
#include "common/check.h"

namespace baton {
namespace {

// Long enough to bridge the serial parts between two ops of a step, short enough that router,
// prefill and decode processes can share cores.
constexpr std::chrono::microseconds kSpin{30};
constexpr int kPausesPerClockRead = 64;

// True once `done()` holds; false when the spin time is over.
template <typename Done>
bool SpinUntil(const Done& done) {
  const auto deadline = std::chrono::steady_clock::now() + kSpin;
  do {
    for (int i = 0; i < kPausesPerClockRead; ++i) {
      if (done()) return true;
      _mm_pause();
    }
  } while (std::chrono::steady_clock::now() < deadline);
  return false;
}

absl::Status PinThread(pthread_t thread, int32_t cpu) {
  cpu_set_t set;
  CPU_ZERO(&set);
  if (cpu >= 0 && cpu < CPU_SETSIZE) CPU_SET(cpu, &set);
  if (pthread_setaffinity_np(thread, sizeof(set), &set) != 0) {
    return absl::InvalidArgumentError(absl::StrCat("cannot pin a compute thread to CPU ", cpu,
                                                   ": not available to this process"));
  }
  return absl::OkStatus();
}

}  // namespace

absl::StatusOr<std::unique_ptr<ComputePool>> ComputePool::Create(
    int32_t num_threads, std::span<const int32_t> pin_cpus) {
  if (num_threads < 1 || num_threads > 1024) {
    return absl::InvalidArgumentError(
        absl::StrCat("num_threads is ", num_threads, "; allowed: 1 to 1024"));
  }
  if (!pin_cpus.empty() && static_cast<int32_t>(pin_cpus.size()) != num_threads) {
    return absl::InvalidArgumentError(absl::StrCat("pin_cpus names ", pin_cpus.size(), " CPUs for ",
                                                   num_threads, " threads; name one for each"));
  }
  std::unique_ptr<ComputePool> pool(new ComputePool(num_threads, pin_cpus));
  for (int32_t thread = 1; thread < num_threads; ++thread) {
    pool->workers_.emplace_back([p = pool.get(), thread] { p->WorkerLoop(thread); });
    if (!pin_cpus.empty()) {
      RETURN_IF_ERROR(PinThread(pool->workers_.back().native_handle(), pin_cpus[thread]));
    }
  }
  return pool;
}

ComputePool::ComputePool(int32_t num_threads, std::span<const int32_t> pin_cpus)
    : num_threads_(num_threads),
      pin_cpus_(pin_cpus.begin(), pin_cpus.end()),
      scratch_(static_cast<size_t>(num_threads)),
      shares_(static_cast<size_t>(num_threads)) {}

ComputePool::~ComputePool() {
  stop_.store(true);
  wake_.fetch_add(1);
  wake_.notify_all();
  for (std::thread& worker : workers_) worker.join();
}

absl::Status ComputePool::PinCaller() {
  if (pin_cpus_.empty() || pinned_caller_ == std::this_thread::get_id()) return absl::OkStatus();
  RETURN_IF_ERROR(PinThread(pthread_self(), pin_cpus_[0]));
  pinned_caller_ = std::this_thread::get_id();
  return absl::OkStatus();
}

void ComputePool::ReserveScratch(size_t bytes) {
  for (AlignedBuffer& scratch : scratch_) scratch.Reserve(bytes);
}

void ComputePool::RunShares(int32_t num_tasks, int32_t num_shares, TaskFn fn) {
  if (num_threads_ == 1 || num_tasks <= 1) {
    for (int32_t task = 0; task < num_tasks; ++task) fn(task, 0);
    return;
  }
  fn_.store(&fn, std::memory_order_relaxed);
  unfinished_tasks_.store(num_tasks, std::memory_order_relaxed);
  ++job_;
  for (int64_t i = 0; i < num_shares; ++i) {
    Share& share = shares_[static_cast<size_t>(i)];
    const auto begin = static_cast<int32_t>(num_tasks * i / num_shares);
    const auto end = static_cast<int32_t>(num_tasks * (i + 1) / num_shares);
    share.end.store(end, std::memory_order_relaxed);
    share.open.store(job_ << 32 | static_cast<uint32_t>(end - begin), std::memory_order_release);
  }
  wake_.fetch_add(1, std::memory_order_release);
  wake_.notify_all();
  TakeTasks(0);
  if (SpinUntil([this] { return unfinished_tasks_.load(std::memory_order_acquire) == 0; })) return;
  for (int32_t left = unfinished_tasks_.load(std::memory_order_acquire); left != 0;
       left = unfinished_tasks_.load(std::memory_order_acquire)) {
    unfinished_tasks_.wait(left, std::memory_order_acquire);
  }
}

void ComputePool::TakeTasks(int32_t thread) {
  for (int32_t i = 0; i < num_threads_; ++i) {
    TakeTasks(thread, &shares_[static_cast<size_t>((thread + i) % num_threads_)]);
  }
}

void ComputePool::TakeTasks(int32_t thread, Share* share) {
  uint64_t open = share->open.load(std::memory_order_acquire);
  while (static_cast<uint32_t>(open) != 0) {
    // Read before taking: once a task of this job is taken, the job cannot end before we return.
    const TaskFn* fn = fn_.load(std::memory_order_relaxed);
    const int32_t end = share->end.load(std::memory_order_relaxed);
    if (!share->open.compare_exchange_weak(open, open - 1, std::memory_order_acq_rel,
                                           std::memory_order_acquire)) {
      continue;
    }
    (*fn)(end - static_cast<int32_t>(static_cast<uint32_t>(open)), thread);
    // The last one wakes the caller, should it sleep.
    if (unfinished_tasks_.fetch_sub(1, std::memory_order_acq_rel) == 1) {
      unfinished_tasks_.notify_one();
    }
    open = share->open.load(std::memory_order_acquire);
  }
}

void ComputePool::WorkerLoop(int32_t thread) {
  uint32_t seen = 0;
  while (!stop_.load(std::memory_order_acquire)) {
    const auto woken = [this, seen] { return wake_.load(std::memory_order_acquire) != seen; };
    if (!SpinUntil(woken)) wake_.wait(seen, std::memory_order_acquire);
    seen = wake_.load(std::memory_order_acquire);
    TakeTasks(thread);
  }
}

}  // namespace baton
