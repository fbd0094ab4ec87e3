// In NCCL's place: what is enqueued of an operation calls the ranks' own Communicator, on memory
// that is the host's.
#include "engine/model/cuda/nccl_communicator.h"

#include <span>
#include <utility>

#include "tests/support/cuda_emulation/runtime_api.h"

namespace baton {
namespace {

class HostCommunicator final : public CudaCommunicator {
 public:
  explicit HostCommunicator(std::unique_ptr<Communicator> ranks) : ranks_(std::move(ranks)) {}

  void AllReduceSum(const CudaContext& context, float* numbers, size_t count) override {
    cuda_emulation::Enqueue(context.stream(), [this, &context, numbers, count] {
      context.Note(ranks_->AllReduceSum({numbers, count}));
    });
  }
  void AllGather(const CudaContext& context, const float* mine, float* all, size_t count) override {
    cuda_emulation::Enqueue(context.stream(), [this, &context, mine, all, count] {
      const auto ranks = static_cast<size_t>(ranks_->size());
      context.Note(ranks_->AllGather(std::as_bytes(std::span(mine, count)),
                                     std::as_writable_bytes(std::span(all, count * ranks))));
    });
  }

 private:
  const std::unique_ptr<Communicator> ranks_;
};

}  // namespace

absl::Status CheckNccl(const std::string&) { return absl::OkStatus(); }

absl::StatusOr<std::unique_ptr<CudaCommunicator>> ConnectNccl(const CudaContext&,
                                                              std::unique_ptr<Communicator> ranks) {
  return std::make_unique<HostCommunicator>(std::move(ranks));
}

}  // namespace baton
