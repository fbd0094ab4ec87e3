// In NCCL's place: what is enqueued of an operation calls the ranks' own Communicator, on memory
// that is the host's.
#include "engine/model/cuda/nccl_communicator.h"

#include <algorithm>
#include <optional>
#include <span>
#include <utility>
#include <vector>

#include "tests/support/cuda_emulation/runtime_api.h"
#include "tests/support/cuda_emulation/stream_runner.h"

namespace baton {
namespace {

class HostCommunicator final : public CudaCommunicator {
 public:
  HostCommunicator(const CudaContext& context, std::unique_ptr<Communicator> ranks)
      : ranks_(std::move(ranks)) {
    // Rank 0 waits for its steps; the others compute them beside it.
    if (ranks_->rank() > 0) runner_.emplace(context.stream());
  }

  void AllReduceSum(const CudaContext& context, float* numbers, size_t count) override {
    cuda_emulation::Enqueue(context.stream(), [this, numbers, count] {
      Check(ranks_->AllReduceSum({numbers, count}));
    });
  }
  void AllGather(const CudaContext& context, const float* mine, float* all, size_t count) override {
    cuda_emulation::Enqueue(context.stream(), [this, mine, all, count] {
      const auto ranks = static_cast<size_t>(ranks_->size());
      Check(ranks_->AllGather(std::as_bytes(std::span(mine, count)),
                              std::as_writable_bytes(std::span(all, count * ranks))));
    });
  }
  void Broadcast(const CudaContext& context, int32_t* numbers, size_t count) override {
    cuda_emulation::Enqueue(context.stream(), [this, numbers, count] {
      std::vector<int32_t> all(count * static_cast<size_t>(ranks_->size()));
      Check(ranks_->AllGather(std::as_bytes(std::span(numbers, count)),
                              std::as_writable_bytes(std::span(all))));
      std::copy_n(all.begin(), count, numbers);
    });
  }

 private:
  // Without one of them the others' devices would wait for ever.
  static void Check(const absl::Status& status) {
    if (!status.ok()) cuda_emulation::BreakDevice();
  }

  const std::unique_ptr<Communicator> ranks_;
  std::optional<cuda_emulation::StreamRunner> runner_;
};

}  // namespace

absl::Status CheckNccl(const std::string&) { return absl::OkStatus(); }

absl::StatusOr<std::unique_ptr<CudaCommunicator>> ConnectNccl(const CudaContext& context,
                                                              std::unique_ptr<Communicator> ranks) {
  return std::make_unique<HostCommunicator>(context, std::move(ranks));
}

}  // namespace baton
