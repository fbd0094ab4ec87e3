#include "engine/model/cuda/ordered_communicator.h"

#include <algorithm>
#include <utility>

#include "engine/kernels/cuda/sum_gathered.h"

namespace baton {

absl::StatusOr<std::unique_ptr<CudaCommunicator>> OrderedCommunicator::Create(
    std::unique_ptr<CudaCommunicator> ranks, int32_t size, size_t piece) {
  ASSIGN_OR_RETURN(auto gathered, DeviceArray<float>::Create(static_cast<size_t>(size) * piece));
  return std::unique_ptr<CudaCommunicator>(
      new OrderedCommunicator(std::move(ranks), size, piece, std::move(gathered)));
}

OrderedCommunicator::OrderedCommunicator(std::unique_ptr<CudaCommunicator> ranks, int32_t size,
                                         size_t piece, DeviceArray<float> gathered)
    : ranks_(std::move(ranks)), size_(size), piece_(piece), gathered_(std::move(gathered)) {}

void OrderedCommunicator::AllReduceSum(const CudaContext& context, float* numbers, size_t count) {
  for (size_t begin = 0; begin < count; begin += piece_) {
    const size_t piece = std::min(piece_, count - begin);
    ranks_->AllGather(context, numbers + begin, gathered_.data(), piece);
    SumGathered(
        context,
        {.parts = gathered_.data(), .output = numbers + begin, .count = piece, .num_parts = size_});
  }
}

}  // namespace baton
