// A CudaCommunicator by NCCL, which is loaded when it is first needed: binaries start without it.
#pragma once

#include <memory>
#include <string>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "engine/model/cuda/cuda_communicator.h"
#include "engine/parallel/communicator.h"

namespace baton {

inline constexpr char kNcclLibrary[] = "libnccl.so.2";

// NOT_FOUND: `library` cannot be loaded, or lacks something; the message names it and says what to
// do. Before minutes are spent on weights. UNIMPLEMENTED, here and below: this build has no NCCL.
absl::Status CheckNccl(const std::string& library = kNcclLibrary);

// Joins the group of `ranks`, over which the ranks tell one another how to meet. The device is the
// context's, another one on every rank. NOT_FOUND: see CheckNccl; UNAVAILABLE: a rank is gone, or
// NCCL's own error.
//
// A rank that dies leaves the others' operations on the device for ever: who looks after the ranks
// ends the process, as for other groups.
absl::StatusOr<std::unique_ptr<CudaCommunicator>> ConnectNccl(const CudaContext& context,
                                                              std::unique_ptr<Communicator> ranks);

}  // namespace baton
