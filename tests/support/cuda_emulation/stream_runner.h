// Runs a stream by itself, for a process whose host never waits for it.
#pragma once

#include <memory>
#include <thread>

#include "tests/support/cuda_emulation/stream.h"

namespace baton::cuda_emulation {

// What is enqueued runs soon, on a thread of this, as on a device. Until it is destroyed, which
// waits for what runs.
class StreamRunner {
 public:
  explicit StreamRunner(cudaStream_t stream);
  ~StreamRunner();
  StreamRunner(const StreamRunner&) = delete;
  StreamRunner& operator=(const StreamRunner&) = delete;

 private:
  void RunAll();

  const std::shared_ptr<CUstream_st> stream_;
  bool stops_ = false;  // with DeviceMutex
  std::thread thread_;
};

}  // namespace baton::cuda_emulation
