// Where there was no header of NCCL.
#include "engine/model/cuda/nccl_communicator.h"

namespace baton {

namespace {
absl::Status WithoutNccl() {
  return absl::UnimplementedError(
      "this baton was built without NCCL; build it where nccl.h is found, or leave tensor_parallel "
      "at 1");
}
}  // namespace

absl::Status CheckNccl(const std::string&) { return WithoutNccl(); }

absl::StatusOr<std::unique_ptr<CudaCommunicator>> ConnectNccl(const CudaContext&,
                                                              std::unique_ptr<Communicator>) {
  return WithoutNccl();
}

}  // namespace baton
