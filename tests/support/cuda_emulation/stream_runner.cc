#include "tests/support/cuda_emulation/stream_runner.h"

#include "tests/support/cuda_emulation/device.h"

namespace baton::cuda_emulation {

namespace {

std::shared_ptr<CUstream_st> Find(cudaStream_t handle) {
  const Lock lock(DeviceMutex());
  return StreamOf(handle).shared_from_this();
}

}  // namespace

StreamRunner::StreamRunner(cudaStream_t stream)
    : stream_(Find(stream)), thread_([this] { RunAll(); }) {}

StreamRunner::~StreamRunner() {
  {
    const Lock lock(DeviceMutex());
    stops_ = true;
    TheDevice().changed.notify_all();
  }
  thread_.join();
}

void StreamRunner::RunAll() {
  Lock lock(DeviceMutex());
  Device& device = TheDevice();
  const auto has_work = [&] { return !device.broken && stream_->ran < stream_->added; };
  for (;;) {
    device.changed.wait(lock, [&] { return stops_ || has_work(); });
    if (stops_) return;
    const Point end = EndOf(*stream_);
    RunUntil(lock, {&end, 1});
  }
}

}  // namespace baton::cuda_emulation
