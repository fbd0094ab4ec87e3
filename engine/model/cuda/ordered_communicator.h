// Sums over devices whose bits depend on the numbers alone.
#pragma once

#include <cstddef>
#include <cstdint>
#include <memory>

#include "absl/status/statusor.h"
#include "engine/kernels/cuda/device_array.h"
#include "engine/model/cuda/cuda_communicator.h"

namespace baton {

// The operations of another communicator, but that sums are added from rank 0 to the last, wherever
// a number is and however many there are: all ranks' numbers are gathered, a piece at a time, and
// every rank adds them. A rank receives size / 2 times the bytes of an all-reduce in a ring.
class OrderedCommunicator final : public CudaCommunicator {
 public:
  // Numbers of each rank that are gathered at once, at most: 16 MiB, beside which latency is
  // little.
  static constexpr size_t kMaxPiece = size_t{4} << 20;

  // Of `size` ranks, for pieces of up to `piece` numbers of each.
  static absl::StatusOr<std::unique_ptr<CudaCommunicator>> Create(
      std::unique_ptr<CudaCommunicator> ranks, int32_t size, size_t piece);

  void AllReduceSum(const CudaContext& context, float* numbers, size_t count) override;
  void AllGather(const CudaContext& context, const float* mine, float* all, size_t count) override {
    ranks_->AllGather(context, mine, all, count);
  }
  void Broadcast(const CudaContext& context, int32_t* numbers, size_t count) override {
    ranks_->Broadcast(context, numbers, count);
  }
  int64_t device_bytes() const override { return static_cast<int64_t>(gathered_.bytes()); }

 private:
  OrderedCommunicator(std::unique_ptr<CudaCommunicator> ranks, int32_t size, size_t piece,
                      DeviceArray<float> gathered);

  const std::unique_ptr<CudaCommunicator> ranks_;
  const int32_t size_;
  const size_t piece_;
  DeviceArray<float> gathered_;  // [size, piece]
};

}  // namespace baton
