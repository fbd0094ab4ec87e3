// Streams of the emulated devices, and threads that use them beside one another. No kernels, whose
// threads' stacks ThreadSanitizer does not follow.
#include <cuda_runtime.h>
#include <gtest/gtest.h>

#include <algorithm>
#include <chrono>
#include <functional>
#include <semaphore>
#include <thread>
#include <utility>
#include <vector>

namespace baton {
namespace {

using cuda_emulation::Enqueue;

constexpr std::chrono::seconds kPatience{10};

cudaStream_t NewStream() {
  cudaStream_t stream = nullptr;
  EXPECT_EQ(cudaStreamCreateWithFlags(&stream, cudaStreamNonBlocking), cudaSuccess);
  return stream;
}
cudaEvent_t NewEvent() {
  cudaEvent_t event = nullptr;
  EXPECT_EQ(cudaEventCreateWithFlags(&event, cudaEventDisableTiming), cudaSuccess);
  return event;
}

// A stream and a thread that waits for it, which is in the middle of the work there until End.
class Busy {
 public:
  explicit Busy(std::function<void()> rest = [] {}) : stream_(NewStream()) {
    Enqueue(stream_, [this] {
      begun_.release();
      was_ended_ = end_.try_acquire_for(kPatience);
    });
    Enqueue(stream_, std::move(rest));
    thread_ = std::thread([this] { EXPECT_EQ(cudaStreamSynchronize(stream_), cudaSuccess); });
    begun_.acquire();
  }
  void End() {
    end_.release();
    thread_.join();
    EXPECT_TRUE(was_ended_) << "what came before End has waited for it";
  }
  ~Busy() {
    if (thread_.joinable()) End();
    cudaStreamDestroy(stream_);
  }

  cudaStream_t stream() const { return stream_; }

 private:
  const cudaStream_t stream_;
  std::binary_semaphore begun_{0};
  std::binary_semaphore end_{0};
  bool was_ended_ = false;
  std::thread thread_;
};

TEST(StreamsTest, CallsThatDoNotWaitReturnBesideAnotherThreadsWork) {
  constexpr size_t kBytes = 64;
  std::byte* memory = nullptr;
  std::byte* pinned = nullptr;
  ASSERT_EQ(cudaMalloc(&memory, 2 * kBytes), cudaSuccess);
  ASSERT_EQ(cudaMallocHost(&pinned, 2 * kBytes), cudaSuccess);
  std::fill_n(pinned, kBytes, std::byte{5});
  {
    Busy busy;
    const cudaStream_t stream = NewStream();
    const cudaEvent_t event = NewEvent();
    EXPECT_EQ(cudaMemcpyAsync(memory, pinned, kBytes, cudaMemcpyHostToDevice, stream), cudaSuccess);
    EXPECT_EQ(cudaEventRecord(event, stream), cudaSuccess);
    EXPECT_EQ(cudaEventQuery(event), cudaErrorNotReady);
    EXPECT_EQ(cudaStreamQuery(stream), cudaErrorNotReady);
    EXPECT_EQ(cudaStreamQuery(busy.stream()), cudaErrorNotReady);
    EXPECT_EQ(cudaEventRecord(event, busy.stream()), cudaSuccess);
    EXPECT_EQ(cudaEventDestroy(event), cudaSuccess);
    cudaGraph_t graph = nullptr;
    cudaGraphExec_t executable = nullptr;
    EXPECT_EQ(cudaStreamBeginCapture(stream, cudaStreamCaptureModeThreadLocal), cudaSuccess);
    EXPECT_EQ(cudaMemsetAsync(memory + kBytes, 6, kBytes, stream), cudaSuccess);
    EXPECT_EQ(cudaStreamEndCapture(stream, &graph), cudaSuccess);
    EXPECT_EQ(cudaGraphInstantiate(&executable, graph), cudaSuccess);
    EXPECT_EQ(cudaGraphLaunch(executable, stream), cudaSuccess);
    EXPECT_EQ(cudaGraphExecDestroy(executable), cudaSuccess);
    EXPECT_EQ(cudaGraphDestroy(graph), cudaSuccess);
    EXPECT_EQ(cudaGetLastError(), cudaSuccess);
    busy.End();
    EXPECT_EQ(cudaMemcpyAsync(pinned, memory, 2 * kBytes, cudaMemcpyDeviceToHost, stream),
              cudaSuccess);
    EXPECT_EQ(cudaStreamSynchronize(stream), cudaSuccess);
    cudaStreamDestroy(stream);
  }
  EXPECT_EQ(std::count(pinned, pinned + kBytes, std::byte{5}), int64_t{kBytes});
  EXPECT_EQ(std::count(pinned + kBytes, pinned + 2 * kBytes, std::byte{6}), int64_t{kBytes});
  EXPECT_EQ(cudaFree(memory), cudaSuccess);
  EXPECT_EQ(cudaFreeHost(pinned), cudaSuccess);
}

TEST(StreamsTest, WhatIsAskedAboutRunsInTurnsWithTheWorkThatAThreadWaitsFor) {
  const cudaStream_t asked = NewStream();
  const cudaStream_t not_asked = NewStream();
  bool asked_ran = false;
  bool not_asked_ran = false;
  std::pair<bool, bool> ran_before_the_rest;
  {
    Busy busy([&] { ran_before_the_rest = {asked_ran, not_asked_ran}; });
    Enqueue(not_asked, [&] { not_asked_ran = true; });
    Enqueue(asked, [&] { asked_ran = true; });
    EXPECT_EQ(cudaStreamQuery(asked), cudaErrorNotReady);
  }
  EXPECT_EQ(ran_before_the_rest, std::pair(true, false));
  EXPECT_EQ(cudaStreamQuery(asked), cudaSuccess);
  EXPECT_FALSE(not_asked_ran);
  cudaStreamDestroy(asked);
  cudaStreamDestroy(not_asked);
  EXPECT_TRUE(not_asked_ran);
}

TEST(StreamsTest, WhoAsksAgainAndAgainGetsThereByThemselves) {
  const cudaStream_t stream = NewStream();
  int ran = 0;
  Enqueue(stream, [&] { ++ran; });
  Enqueue(stream, [&] { ++ran; });
  const cudaEvent_t event = NewEvent();
  EXPECT_EQ(cudaEventQuery(event), cudaSuccess) << "never recorded";
  EXPECT_EQ(cudaEventRecord(event, stream), cudaSuccess);
  EXPECT_EQ(cudaEventQuery(event), cudaErrorNotReady);
  EXPECT_EQ(ran, 1);
  EXPECT_EQ(cudaEventQuery(event), cudaSuccess);
  EXPECT_EQ(ran, 2);
  cudaEventDestroy(event);
  cudaStreamDestroy(stream);
}

TEST(StreamsTest, AWaitForAnEventRunsWhatIsBeforeItAndNothingElse) {
  const cudaStream_t stream = NewStream();
  const cudaStream_t other = NewStream();
  const cudaEvent_t event = NewEvent();
  std::vector<int> ran;
  Enqueue(other, [&] { ran.push_back(0); });
  Enqueue(stream, [&] { ran.push_back(1); });
  EXPECT_EQ(cudaEventRecord(event, stream), cudaSuccess);
  Enqueue(stream, [&] { ran.push_back(2); });
  EXPECT_EQ(cudaEventSynchronize(event), cudaSuccess);
  EXPECT_EQ(ran, std::vector{1});
  EXPECT_EQ(cudaStreamSynchronize(stream), cudaSuccess);
  EXPECT_EQ(ran, (std::vector{1, 2}));
  EXPECT_EQ(cudaDeviceSynchronize(), cudaSuccess);
  EXPECT_EQ(ran, (std::vector{1, 2, 0}));
  cudaEventDestroy(event);
  cudaStreamDestroy(stream);
  cudaStreamDestroy(other);
}

// Each allocates, computes on and frees memory of its own, by turns waiting and asking.
TEST(StreamsTest, ThreadsWithStreamsOfTheirOwnDoNotDisturbOneAnother) {
  constexpr int kThreads = 4, kRounds = 50;
  constexpr size_t kBytes = 8192;
  const auto run = [](int thread) {
    const cudaStream_t stream = NewStream();
    std::byte* pinned = nullptr;
    EXPECT_EQ(cudaMallocHost(&pinned, kBytes), cudaSuccess);
    for (int round = 0; round < kRounds; ++round) {
      const int value = thread * kRounds + round;
      std::byte* memory = nullptr;
      EXPECT_EQ(cudaMalloc(&memory, kBytes), cudaSuccess);
      EXPECT_EQ(cudaMemsetAsync(memory, value, kBytes, stream), cudaSuccess);
      EXPECT_EQ(cudaMemcpyAsync(pinned, memory, kBytes, cudaMemcpyDeviceToHost, stream),
                cudaSuccess);
      if (round % 2 == 0) {
        EXPECT_EQ(cudaStreamSynchronize(stream), cudaSuccess);
      } else {
        while (cudaStreamQuery(stream) == cudaErrorNotReady) std::this_thread::yield();
      }
      const auto right = static_cast<std::byte>(value);
      EXPECT_EQ(std::count(pinned, pinned + kBytes, right), int64_t{kBytes});
      EXPECT_EQ(cudaFree(memory), cudaSuccess);
    }
    cudaFreeHost(pinned);
    cudaStreamDestroy(stream);
  };
  std::vector<std::thread> threads;
  for (int i = 0; i < kThreads; ++i) threads.emplace_back(run, i);
  for (std::thread& thread : threads) thread.join();
}

TEST(StreamsDeathTest, MemoryIsClosedAgainWhenNothingRunsAnyMore) {
  std::byte* memory = nullptr;
  ASSERT_EQ(cudaMalloc(&memory, 1), cudaSuccess);
  { const Busy busy; }
  EXPECT_DEATH(*memory = std::byte{1}, "");
  EXPECT_EQ(cudaFree(memory), cudaSuccess);
}

TEST(StreamsDeathTest, ADeviceThatBreaksIsWaitedForByNobody) {
  const auto wait_for_a_broken_device = [] {
    bool ran = false;
    const cudaStream_t other = NewStream();
    const Busy busy;
    Enqueue(other, [&] { ran = true; });
    cuda_emulation::BreakDevice();
    const cudaError_t error = cudaStreamSynchronize(other);
    std::_Exit(error == cudaErrorLaunchFailure && !ran ? 0 : 1);
  };
  EXPECT_EXIT(wait_for_a_broken_device(), testing::ExitedWithCode(0), "");
}

}  // namespace
}  // namespace baton
