#include "engine/model/cuda/cuda_kv_cache.h"

#include <cuda_runtime.h>

#include <algorithm>
#include <limits>
#include <utility>

#include "absl/status/status.h"
#include "absl/strings/str_cat.h"
#include "common/check.h"

namespace baton {
namespace {

struct DeviceBytes {
  size_t free = 0;
  size_t total = 0;
};

absl::StatusOr<DeviceBytes> ReadDeviceBytes(int32_t device) {
  DeviceBytes bytes;
  cudaError_t error = cudaSetDevice(device);
  if (error == cudaSuccess) error = cudaMemGetInfo(&bytes.free, &bytes.total);
  if (error == cudaSuccess) return bytes;
  cudaGetLastError();  // it is told here
  return absl::NotFoundError(absl::StrCat("no CUDA device ", device, ": ", cudaGetErrorName(error),
                                          ", ", cudaGetErrorString(error)));
}

absl::Status Failed(const char* what, cudaError_t error) {
  cudaGetLastError();  // it is told here
  return absl::InternalError(
      absl::StrCat(what, ": ", cudaGetErrorName(error), ", ", cudaGetErrorString(error)));
}

int64_t BytesOfBlock(const KvLayout& layout) { return layout.num_layers * layout.BlockBytes(); }

absl::Status TooMany(const KvLayout& layout, int32_t num_blocks, const DeviceBytes& bytes) {
  const int64_t block_bytes = BytesOfBlock(layout);
  return absl::ResourceExhaustedError(
      absl::StrCat(num_blocks, " KV blocks take ", (int64_t{num_blocks} * block_bytes) >> 20,
                   " MiB; of the device's ", bytes.total >> 20, " MiB ", bytes.free >> 20,
                   " MiB are free, room for ", static_cast<int64_t>(bytes.free) / block_bytes,
                   " blocks: ask for fewer, or for a smaller share of the device"));
}

}  // namespace

absl::StatusOr<std::unique_ptr<CudaKvCache>> CudaKvCache::Create(int32_t device,
                                                                 const KvLayout& layout,
                                                                 int32_t num_blocks) {
  if (num_blocks <= 0 || BytesOfBlock(layout) <= 0) {
    return absl::InvalidArgumentError(
        absl::StrCat("a KV cache of ", num_blocks, " blocks of ", layout.ToString()));
  }
  ASSIGN_OR_RETURN(const DeviceBytes bytes, ReadDeviceBytes(device));
  auto cache = std::unique_ptr<CudaKvCache>(new CudaKvCache(device, layout, num_blocks));
  absl::StatusOr<DeviceArray<std::byte>> memory =
      DeviceArray<std::byte>::Create(cache->LayerBytes() * static_cast<size_t>(layout.num_layers));
  if (!memory.ok()) return TooMany(layout, num_blocks, bytes);
  cache->memory_ = *std::move(memory);
  cudaError_t error = cudaMemsetAsync(cache->memory_.data(), 0, cache->memory_.bytes(), nullptr);
  if (error == cudaSuccess) error = cudaDeviceSynchronize();
  if (error != cudaSuccess) return Failed("zeroing the KV cache", error);
  cache->UseMemory(cache->memory_.data());
  return cache;
}

absl::StatusOr<std::unique_ptr<CudaKvCache>> CudaKvCache::Attach(int32_t device,
                                                                 const KvLayout& layout,
                                                                 int32_t num_blocks,
                                                                 std::string_view handle) {
  if (handle.size() != sizeof(cudaIpcMemHandle_t)) {
    return absl::InvalidArgumentError(absl::StrCat("a handle of KV memory of ", handle.size(),
                                                   " bytes; expected ",
                                                   sizeof(cudaIpcMemHandle_t)));
  }
  auto cache = std::unique_ptr<CudaKvCache>(new CudaKvCache(device, layout, num_blocks));
  // As memory of its own device, so that no device has to reach another one's.
  cudaError_t error = cudaSetDevice(device);
  if (error == cudaSuccess) error = OpenKvHandle(handle, &cache->attached_);
  if (error != cudaSuccess) return Failed("opening the KV memory of another process", error);
  cache->handle_ = handle;
  cache->UseMemory(cache->attached_);
  return cache;
}

CudaKvCache::~CudaKvCache() {
  if (attached_ == nullptr) return;
  cudaSetDevice(device_);
  cudaIpcCloseMemHandle(attached_);
}

absl::StatusOr<std::string> CudaKvCache::Share() {
  BATON_CHECK(attached_ == nullptr);
  cudaIpcMemHandle_t handle;
  cudaError_t error = cudaSetDevice(device_);
  if (error == cudaSuccess) error = cudaIpcGetMemHandle(&handle, memory_.data());
  if (error != cudaSuccess) return Failed("sharing the KV cache", error);
  return std::string(reinterpret_cast<const char*>(&handle), sizeof(handle));
}

size_t CudaKvCache::LayerBytes() const {
  return static_cast<size_t>(region_.num_blocks * region_.layout.BlockBytes());
}

void CudaKvCache::UseMemory(std::byte* memory) {
  for (int32_t layer = 0; layer < region_.layout.num_layers; ++layer) {
    region_.layer_base.push_back(memory + static_cast<size_t>(layer) * LayerBytes());
  }
}

absl::StatusOr<int32_t> CudaKvBlocksThatFit(int32_t device, const KvLayout& layout, double share,
                                            int64_t used_bytes) {
  BATON_CHECK(share > 0 && share <= 1) << share;
  ASSIGN_OR_RETURN(const DeviceBytes bytes, ReadDeviceBytes(device));
  const auto allowed = static_cast<int64_t>(static_cast<double>(bytes.total) * share);
  const int64_t block_bytes = BytesOfBlock(layout);
  const int64_t blocks = (allowed - used_bytes) / block_bytes;
  if (blocks < 1) {
    return absl::ResourceExhaustedError(absl::StrCat(
        "the model and its steps take ", used_bytes >> 20, " MiB; ", share, " of the device's ",
        bytes.total >> 20, " MiB, which leaves nothing for a KV block of ", block_bytes >> 10,
        " KiB: give the worker a larger share, fewer tokens a step, or quantized weights"));
  }
  return static_cast<int32_t>(std::min(blocks, int64_t{std::numeric_limits<int32_t>::max()}));
}

}  // namespace baton
