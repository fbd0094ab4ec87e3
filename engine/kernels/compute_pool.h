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

  // Calls fn(task, thread) once for each task in [0, num_tasks), in no set order, and returns when
  // all have returned. Allocates nothing.
  void Run(int32_t num_tasks, TaskFn fn);

  // Pins the calling thread to pin_cpus[0]; a no-op without pinning or when it already is.
  absl::Status PinCaller();

  int32_t num_threads() const { return num_threads_; }
  // Gives every thread scratch of at least `bytes`; not within a task. What was there is lost.
  void ReserveScratch(size_t bytes);
  // The scratch of one thread, 64-byte aligned; only within a task of that thread.
  std::byte* Scratch(int32_t thread) { return scratch_[static_cast<size_t>(thread)].data(); }

 private:
  ComputePool(int32_t num_threads, std::span<const int32_t> pin_cpus);
  void WorkerLoop(int32_t thread);
  // Takes tasks of the current job until none is left to take.
  void TakeTasks(int32_t thread);

  const int32_t num_threads_;
  const std::vector<int32_t> pin_cpus_;
  std::thread::id pinned_caller_;
  std::vector<AlignedBuffer> scratch_;  // [num_threads]

  // A job's identity (upper 32 bits) and its tasks not yet taken (lower 32 bits) in one word, so
  // that a worker that wakes up late can never take a task of the wrong job.
  alignas(64) std::atomic<uint64_t> open_tasks_{0};
  std::atomic<int32_t> unfinished_tasks_{0};
  std::atomic<int32_t> num_tasks_{0};
  std::atomic<const TaskFn*> fn_{nullptr};     // on Run's stack; valid while unfinished_tasks_ > 0
  alignas(64) std::atomic<uint32_t> wake_{0};  // workers sleep on it
  std::atomic<bool> stop_{false};
  std::vector<std::thread> workers_;
};

}  // namespace baton
