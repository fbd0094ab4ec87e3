// The threads that one model computes on.
#pragma once

#include <atomic>
#include <cstddef>
#include <cstdint>
#include <memory>
#include <span>
#include <thread>
#include <vector>

#include "absl/functional/function_ref.h"
#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "engine/kernels/aligned_buffer.h"

namespace baton {

// The caller of Run is thread 0; num_threads - 1 workers help it. Between jobs a worker spins for a
// few tens of microseconds and then sleeps, so an idle model costs nothing. With one thread there
// are no workers and no atomics: Run is a loop. One thread at a time calls Run.
class ComputePool {
 public:
  using TaskFn = absl::FunctionRef<void(int32_t task, int32_t thread)>;

  // `pin_cpus`: empty, or one CPU for each thread. INVALID_ARGUMENT: another count, or a CPU that
  // this process may not run on.
  static absl::StatusOr<std::unique_ptr<ComputePool>> Create(int32_t num_threads,
                                                             std::span<const int32_t> pin_cpus);
  ~ComputePool();
  ComputePool(const ComputePool&) = delete;
  ComputePool& operator=(const ComputePool&) = delete;

  // Calls fn(task, thread) once for each task in [0, num_tasks), and returns when all have
  // returned. Allocates nothing. Tasks are begun in rising order, whichever thread is free.
  void Run(int32_t num_tasks, TaskFn fn) { RunShares(num_tasks, 1, fn); }
  // The same, but each thread begins with a share of its own, consecutive tasks, and goes on with
  // what others have left of theirs: for tasks whose data lie side by side in memory.
  void RunInShares(int32_t num_tasks, TaskFn fn) { RunShares(num_tasks, num_threads_, fn); }

  // Pins the calling thread to pin_cpus[0]; a no-op without pinning or when it already is.
  absl::Status PinCaller();

  int32_t num_threads() const { return num_threads_; }
  // Gives every thread scratch of at least `bytes`; not within a task. What was there is lost.
  void ReserveScratch(size_t bytes);
  // The scratch of one thread, 64-byte aligned; only within a task of that thread.
  std::byte* Scratch(int32_t thread) { return scratch_[static_cast<size_t>(thread)].data(); }

 private:
  ComputePool(int32_t num_threads, std::span<const int32_t> pin_cpus);
  // Part of a job's tasks: the job's identity (upper 32 bits) and how many are not yet taken (lower
  // 32 bits) in one word, so that a worker that wakes up late can never take a task of the wrong
  // job.
  struct alignas(64) Share {
    std::atomic<uint64_t> open{0};
    std::atomic<int32_t> end{0};  // one past its last task
  };

  void RunShares(int32_t num_tasks, int32_t num_shares, TaskFn fn);
  void WorkerLoop(int32_t thread);
  // Takes tasks of the current job until none is left to take: of all shares, its own first.
  void TakeTasks(int32_t thread);
  void TakeTasks(int32_t thread, Share* share);

  const int32_t num_threads_;
  const std::vector<int32_t> pin_cpus_;
  std::thread::id pinned_caller_;
  std::vector<AlignedBuffer> scratch_;  // [num_threads]

  std::vector<Share> shares_;  // [num_threads]; a job may use fewer
  uint64_t job_ = 0;           // of the thread that calls Run
  alignas(64) std::atomic<int32_t> unfinished_tasks_{0};
  std::atomic<const TaskFn*> fn_{nullptr};     // on Run's stack; valid while unfinished_tasks_ > 0
  alignas(64) std::atomic<uint32_t> wake_{0};  // workers sleep on it
  std::atomic<bool> stop_{false};
  std::vector<std::thread> workers_;
};

}  // namespace baton
