#include "engine/model/cuda/cuda_kv_staging.h"

#include <cuda_runtime.h>

#include <deque>
#include <utility>
#include <vector>

#include "absl/strings/str_cat.h"
#include "common/check.h"
#include "engine/kernels/cuda/device_array.h"
#include "engine/kernels/cuda/event.h"

namespace baton {
namespace {

absl::Status ToStatus(cudaError_t error) {
  if (error == cudaSuccess) return absl::OkStatus();
  return absl::InternalError(
      absl::StrCat("KV copy: ", cudaGetErrorName(error), ", ", cudaGetErrorString(error)));
}

class CudaKvStaging final : public KvStaging {
 public:
  CudaKvStaging(const KvRegion& region, PinnedArray<std::byte> memory, cudaStream_t stream)
      : region_(region), memory_(std::move(memory)), stream_(stream) {}
  ~CudaKvStaging() override {
    Settle();
    cudaStreamDestroy(stream_);
  }

  std::span<std::byte> memory() override { return {memory_.data(), memory_.size()}; }

  void CopyOut(int32_t layer, std::span<const BlockId> blocks, std::byte* to,
               DoneFn done) override {
    Start(layer, blocks, std::move(done), [&](std::byte* run, size_t at, size_t bytes) {
      return cudaMemcpyAsync(to + at, run, bytes, cudaMemcpyDeviceToHost, stream_);
    });
  }
  void CopyIn(int32_t layer, const std::byte* from, std::span<const BlockId> blocks,
              DoneFn done) override {
    Start(layer, blocks, std::move(done), [&](std::byte* run, size_t at, size_t bytes) {
      return cudaMemcpyAsync(run, from + at, bytes, cudaMemcpyHostToDevice, stream_);
    });
  }

  // The stream does one after the other, so they end in order.
  bool Progress() override {
    bool any = false;
    for (; !copies_.empty(); any = true) {
      const Copy& first = copies_.front();
      // Of a copy that could not be started as a whole, some runs may have been.
      const cudaError_t state =
          first.error == cudaSuccess ? first.ended.Query() : cudaStreamSynchronize(stream_);
      if (state == cudaErrorNotReady) break;
      EndFirst(state);
    }
    return any;
  }
  void Settle() override {
    if (copies_.empty()) return;
    const cudaError_t state = cudaStreamSynchronize(stream_);
    while (!copies_.empty()) EndFirst(state);
  }
  bool idle() const override { return copies_.empty(); }

 private:
  struct Copy {
    CudaEvent ended;
    DoneFn done;
    cudaError_t error = cudaSuccess;  // of starting it
  };

  // `copy` starts the copy of a run: its first byte on the device, where it lies in the host's
  // memory, its length.
  template <typename CopyRun>
  void Start(int32_t layer, std::span<const BlockId> blocks, DoneFn done, CopyRun copy) {
    Copy started{.done = std::move(done)};
    started.error = TakeEvent(&started.ended);
    const auto block_bytes = static_cast<size_t>(region_.layout.BlockBytes());
    for (size_t begin = 0; begin < blocks.size() && started.error == cudaSuccess;) {
      size_t end = begin + 1;
      while (end < blocks.size() && blocks[end].value() == blocks[end - 1].value() + 1) ++end;
      started.error = copy(region_.Block(layer, blocks[begin]), begin * block_bytes,
                           (end - begin) * block_bytes);
      begin = end;
    }
    if (started.error == cudaSuccess) started.error = started.ended.Record(stream_);
    copies_.push_back(std::move(started));
  }
  // Ended copies give their events back.
  cudaError_t TakeEvent(CudaEvent* event) {
    if (events_.empty()) return event->Make();
    *event = std::move(events_.back());
    events_.pop_back();
    return cudaSuccess;
  }
  // `state`: what came of the stream up to it.
  void EndFirst(cudaError_t state) {
    Copy ended = std::move(copies_.front());
    copies_.pop_front();
    if (ended.error == cudaSuccess) events_.push_back(std::move(ended.ended));
    ended.done(ToStatus(ended.error != cudaSuccess ? ended.error : state));
  }

  const KvRegion& region_;
  PinnedArray<std::byte> memory_;
  const cudaStream_t stream_;
  std::deque<Copy> copies_;  // under way, in order
  std::vector<CudaEvent> events_;
};

}  // namespace

absl::StatusOr<std::unique_ptr<KvStaging>> CreateCudaKvStaging(int32_t device,
                                                               const KvRegion& region,
                                                               size_t bytes) {
  RETURN_IF_ERROR(ToStatus(cudaSetDevice(device)));
  ASSIGN_OR_RETURN(PinnedArray<std::byte> memory, PinnedArray<std::byte>::Create(bytes));
  cudaStream_t stream = nullptr;
  RETURN_IF_ERROR(ToStatus(cudaStreamCreateWithFlags(&stream, cudaStreamNonBlocking)));
  return std::make_unique<CudaKvStaging>(region, std::move(memory), stream);
}

}  // namespace baton
