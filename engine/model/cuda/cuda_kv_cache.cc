#include "engine/model/cuda/cuda_kv_cache.h"

#include <cuda_runtime.h>

#include <algorithm>
#include <limits>
#include <utility>

#include "absl/status/status.h"
#include "absl/strings/str_cat.h"
#include "common/check.h"
#include "engine/kernels/cuda/transport_memory.h"
#include "engine/model/cuda/cuda_device_staging.h"
#include "engine/model/cuda/cuda_kv_staging.h"

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
  const auto layer_bytes = static_cast<size_t>(num_blocks * layout.BlockBytes());
  auto cache = std::unique_ptr<CudaKvCache>(new CudaKvCache(device));
  absl::StatusOr<DeviceArray<std::byte>> memory =
      DeviceArray<std::byte>::Create(layer_bytes * static_cast<size_t>(layout.num_layers));
  if (!memory.ok()) return TooMany(layout, num_blocks, bytes);
  cache->memory_ = *std::move(memory);
  cudaError_t error = cudaMemsetAsync(cache->memory_.data(), 0, cache->memory_.bytes(), nullptr);
  if (error == cudaSuccess) error = cudaDeviceSynchronize();
  if (error != cudaSuccess) {
    return absl::InternalError(absl::StrCat("zeroing the KV cache: ", cudaGetErrorName(error)));
  }
  cache->region_ = {.layout = layout, .num_blocks = num_blocks};
  for (int32_t layer = 0; layer < layout.num_layers; ++layer) {
    cache->region_.layer_base.push_back(cache->memory_.data() +
                                        static_cast<size_t>(layer) * layer_bytes);
  }
  return cache;
}

absl::StatusOr<std::unique_ptr<KvStaging>> CudaKvCache::StagingFactory::Create(size_t bytes) {
  return CreateCudaKvStaging(device_, region_, bytes);
}

absl::StatusOr<std::unique_ptr<KvDeviceStaging>> CudaKvCache::StagingFactory::CreateOnDevice(
    const KvSlots& slots) {
  return CreateCudaDeviceStaging(device_, region_, slots);
}

std::optional<MemoryKind> CudaKvCache::StagingFactory::device_memory() const {
  return TransportMemoryKind::kKind;
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
