// What is enqueued on the emulated devices, stream by stream, and who runs it.
//
// Nothing runs by itself, but where there is a StreamRunner. A thread that waits for a point of a
// stream runs what is enqueued there up to it, and in turns with that, piece by piece, what others
// have waited for or asked about. One piece runs at a time, whoever runs it, and the lock is not
// held meanwhile: a call that does not wait on a device does not wait here.
#pragma once

#include <condition_variable>
#include <cstdint>
#include <deque>
#include <functional>
#include <memory>
#include <mutex>
#include <span>
#include <thread>
#include <variant>
#include <vector>

#include "tests/support/cuda_emulation/block.h"
#include "tests/support/cuda_emulation/runtime_api.h"

namespace baton::cuda_emulation {

using Work = std::function<void()>;
using Piece = std::variant<Work, KernelLaunch>;

// Behind so many pieces of a stream; of none: always reached.
struct Point {
  std::shared_ptr<CUstream_st> stream;
  int64_t pieces = 0;
};

}  // namespace baton::cuda_emulation

struct CUgraph_st {
  std::vector<baton::cuda_emulation::Piece> nodes;
};
struct CUgraphExec_st {
  std::vector<baton::cuda_emulation::Piece> nodes;
};
struct CUevent_st {
  int device = 0;
  baton::cuda_emulation::Point recorded;
};
struct CUstream_st : std::enable_shared_from_this<CUstream_st> {
  int device = 0;
  std::unique_ptr<CUgraph_st> captured;  // null: it does not capture
  std::thread::id captures;              // the thread that began
  std::deque<baton::cuda_emulation::Piece> enqueued;
  // In pieces since it was made.
  int64_t added = 0;
  int64_t ran = 0;
  int64_t wanted = 0;          // that somebody waits for or has asked about
  int64_t known = 0;           // that the host was told have run
  int64_t behind_kernel = -1;  // with the last kernel
};

namespace baton::cuda_emulation {

// Held by whoever looks at the devices; never while a piece runs.
std::mutex& DeviceMutex();
using Lock = std::unique_lock<std::mutex>;

// All that follows: with the lock, which those that are given it let go while they wait.

// Of the current device.
std::shared_ptr<CUstream_st> AddStream();
// `handle` null: the current device's own.
CUstream_st& StreamOf(cudaStream_t handle);
bool Capturing();  // this thread, any stream
// Behind what `handle` has, or in the graph that it captures.
void Add(cudaStream_t handle, Piece piece);
// Behind all that is there.
Point EndOf(CUstream_st& stream);
std::vector<Point> EndsOfAll();

// Returns when all are reached. A broken device reaches none any more, and none is waited for.
void RunUntil(Lock& lock, std::span<const Point> points);
// The same for a thread that asks to wait, which none may that captures a graph. Everything ends
// with the error of a broken device.
cudaError_t Wait(Lock& lock, std::span<const Point> points);
cudaError_t WaitForEnd(Lock& lock, cudaStream_t handle);
// Does not wait: cudaErrorNotReady. Where nobody runs anything it runs a piece, so that who asks
// again and again gets there.
cudaError_t Query(Lock& lock, const Point& point);
// Returns when nothing runs, nor will before the lock is let go. For what changes device memory.
void WaitUntilNothingRuns(Lock& lock);

}  // namespace baton::cuda_emulation
