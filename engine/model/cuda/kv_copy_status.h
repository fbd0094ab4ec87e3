// An error of CUDA's as that of a copy between KV blocks and a staging's memory.
#pragma once

#include <cuda_runtime.h>

#include "absl/status/status.h"
#include "absl/strings/str_cat.h"

namespace baton {

inline absl::Status KvCopyStatus(cudaError_t error) {
  if (error == cudaSuccess) return absl::OkStatus();
  return absl::InternalError(
      absl::StrCat("KV copy: ", cudaGetErrorName(error), ", ", cudaGetErrorString(error)));
}

}  // namespace baton
