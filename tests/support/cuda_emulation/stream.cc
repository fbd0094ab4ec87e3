#include "tests/support/cuda_emulation/stream.h"

#include <algorithm>
#include <utility>

#include "tests/support/cuda_emulation/device.h"

namespace baton::cuda_emulation {

namespace {

bool IsReached(const Point& point) {
  return point.stream == nullptr || point.stream->ran >= point.pieces;
}

void Want(const Point& point) {
  if (point.stream == nullptr) return;
  point.stream->wanted = std::max(point.stream->wanted, point.pieces);
}

void NoteThatHostKnows(const Point& point) {
  if (point.stream == nullptr) return;
  point.stream->known = std::max(point.stream->known, point.pieces);
}

// In turns, so that no stream has to wait for the end of another one's work. Null: none is.
std::shared_ptr<CUstream_st> NextWanted() {
  Device& device = TheDevice();
  const size_t count = device.streams.size();
  for (size_t i = 1; i <= count; ++i) {
    const size_t at = (device.turn + i) % count;
    if (device.streams[at]->wanted == device.streams[at]->ran) continue;
    device.turn = at;
    return device.streams[at];
  }
  return nullptr;
}

void RunFirstOf(Lock& lock, CUstream_st& stream) {
  {
    const Piece piece = std::move(stream.enqueued.front());
    stream.enqueued.pop_front();
    lock.unlock();
    if (const auto* launch = std::get_if<KernelLaunch>(&piece)) {
      RunKernel(*launch);
    } else {
      std::get<Work>(piece)();
    }
  }
  lock.lock();
  ++stream.ran;
  TheDevice().changed.notify_all();
}

// One piece of each stream that `next` names, until it names none.
template <typename Next>
void Run(Lock& lock, Next next) {
  Device& device = TheDevice();
  device.running = true;
  device.memory.Open();
  while (const std::shared_ptr<CUstream_st> stream = next()) RunFirstOf(lock, *stream);
  device.memory.Close();
  device.running = false;
  device.changed.notify_all();
}

bool MayRun() {
  const Device& device = TheDevice();
  return !device.running && device.pausing == 0;
}

}  // namespace

std::mutex& DeviceMutex() {
  static auto* mutex = new std::mutex;
  return *mutex;
}

std::shared_ptr<CUstream_st> AddStream() {
  auto stream = std::make_shared<CUstream_st>();
  stream->device = CurrentDevice();
  TheDevice().streams.push_back(stream);
  return stream;
}

CUstream_st& StreamOf(cudaStream_t handle) {
  if (handle != nullptr) return *handle;
  std::shared_ptr<CUstream_st>& own = TheDevice().own_streams[CurrentDevice()];
  if (own == nullptr) own = AddStream();
  return *own;
}

bool Capturing() {
  return std::ranges::any_of(TheDevice().streams, [](const auto& stream) {
    return stream->captured != nullptr && stream->captures == std::this_thread::get_id();
  });
}

void Add(cudaStream_t handle, Piece piece) {
  CUstream_st& stream = StreamOf(handle);
  if (stream.captured != nullptr) {
    stream.captured->nodes.push_back(std::move(piece));
    return;
  }
  if (TheDevice().broken) return;
  if (auto* launch = std::get_if<KernelLaunch>(&piece)) {
    const bool is_behind_kernel = stream.behind_kernel == stream.added;
    launch->overlaps = launch->dependent && is_behind_kernel && stream.known < stream.added;
    stream.behind_kernel = stream.added + 1;
  }
  stream.enqueued.push_back(std::move(piece));
  ++stream.added;
  TheDevice().changed.notify_all();
}

Point EndOf(CUstream_st& stream) {
  return {.stream = stream.shared_from_this(), .pieces = stream.added};
}

std::vector<Point> EndsOfAll() {
  std::vector<Point> ends;
  for (const auto& stream : TheDevice().streams) ends.push_back(EndOf(*stream));
  return ends;
}

void RunUntil(Lock& lock, std::span<const Point> points) {
  Device& device = TheDevice();
  std::ranges::for_each(points, Want);
  const auto ends = [&] { return device.broken || std::ranges::all_of(points, IsReached); };
  const auto next = [&] { return ends() || device.pausing > 0 ? nullptr : NextWanted(); };
  while (!ends()) {
    if (MayRun()) {
      Run(lock, next);
    } else {
      device.changed.wait(lock);
    }
  }
}

cudaError_t Wait(Lock& lock, std::span<const Point> points) {
  if (Capturing()) return Keep(cudaErrorStreamCaptureUnsupported);
  BreakIfTold();
  RunUntil(lock, points);
  if (TheDevice().broken) return cudaErrorLaunchFailure;
  std::ranges::for_each(points, NoteThatHostKnows);
  return cudaSuccess;
}

cudaError_t WaitForEnd(Lock& lock, cudaStream_t handle) {
  const Point end = EndOf(StreamOf(handle));
  return Wait(lock, {&end, 1});
}

cudaError_t Query(Lock& lock, const Point& point) {
  if (Capturing()) return Keep(cudaErrorStreamCaptureUnsupported);
  BreakIfTold();
  if (TheDevice().broken) return cudaErrorLaunchFailure;
  Want(point);
  if (!IsReached(point) && MayRun()) {
    Run(lock, [stream = point.stream]() mutable { return std::exchange(stream, nullptr); });
  }
  if (TheDevice().broken) return cudaErrorLaunchFailure;
  if (!IsReached(point)) return cudaErrorNotReady;
  NoteThatHostKnows(point);
  return cudaSuccess;
}

void WaitUntilNothingRuns(Lock& lock) {
  Device& device = TheDevice();
  ++device.pausing;
  device.changed.wait(lock, [&] { return !device.running; });
  --device.pausing;
  device.changed.notify_all();
}

}  // namespace baton::cuda_emulation
