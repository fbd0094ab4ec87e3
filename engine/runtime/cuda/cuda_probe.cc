#include "engine/runtime/cuda/cuda_probe.h"

#include <cuda_runtime.h>

#include <algorithm>
#include <functional>
#include <limits>
#include <memory>

#include "absl/strings/str_cat.h"
#include "common/check.h"
#include "engine/kernels/cuda/context.h"
#include "engine/kernels/cuda/device_array.h"
#include "engine/kernels/cuda/timer.h"
#include "engine/kernels/cuda/transport_memory.h"

namespace baton {
namespace {

constexpr size_t kBytes = size_t{64} << 20;
constexpr int kRepeats = 5;

absl::Status ToStatus(cudaError_t error) {
  if (error == cudaSuccess) return absl::OkStatus();
  return absl::InternalError(
      absl::StrCat(cudaGetErrorName(error), ", ", cudaGetErrorString(error)));
}

// Of the quickest of a few.
absl::StatusOr<double> Rate(const CudaContext& context,
                            const std::function<cudaError_t(cudaStream_t)>& copy) {
  ASSIGN_OR_RETURN(const CudaTimer timer, CudaTimer::Create());
  double best_ms = std::numeric_limits<double>::infinity();
  for (int i = 0; i < kRepeats; ++i) {
    timer.Start(context);
    context.Note(copy(context.stream()), "copy");
    timer.Stop(context);
    best_ms = std::min(best_ms, timer.ElapsedMs(context));
    RETURN_IF_ERROR(context.status());
  }
  return static_cast<double>(kBytes) / best_ms / 1e6;
}

// With a context of its own: an error of the peer's is not one of this device.
absl::Status MeasurePeer(CudaProbe* probe) {
  ASSIGN_OR_RETURN(const std::unique_ptr<CudaContext> context, CudaContext::Create(probe->device));
  ASSIGN_OR_RETURN(DeviceArray<std::byte> here, DeviceArray<std::byte>::Create(kBytes));
  int direct = 0;
  RETURN_IF_ERROR(ToStatus(cudaDeviceCanAccessPeer(&direct, probe->device, probe->peer)));
  probe->peer_direct = direct != 0;
  RETURN_IF_ERROR(ToStatus(cudaSetDevice(probe->peer)));
  ASSIGN_OR_RETURN(DeviceArray<std::byte> there, DeviceArray<std::byte>::Create(kBytes));
  RETURN_IF_ERROR(context->MakeCurrent());
  ASSIGN_OR_RETURN(probe->from_peer, Rate(*context, [&](cudaStream_t stream) {
                     return cudaMemcpyPeerAsync(here.data(), probe->device, there.data(),
                                                probe->peer, kBytes, stream);
                   }));
  return absl::OkStatus();
}

absl::Status Measure(CudaProbe* probe) {
  ASSIGN_OR_RETURN(const std::unique_ptr<CudaContext> context, CudaContext::Create(probe->device));
  ASSIGN_OR_RETURN(DeviceArray<std::byte> one, DeviceArray<std::byte>::Create(kBytes));
  ASSIGN_OR_RETURN(DeviceArray<std::byte> other, DeviceArray<std::byte>::Create(kBytes));
  ASSIGN_OR_RETURN(PinnedArray<std::byte> host, PinnedArray<std::byte>::Create(kBytes));
  const auto rate = [&](std::byte* to, const std::byte* from, cudaMemcpyKind kind) {
    return Rate(*context, [=](cudaStream_t stream) {
      return cudaMemcpyAsync(to, from, kBytes, kind, stream);
    });
  };
  ASSIGN_OR_RETURN(probe->to_host, rate(host.data(), one.data(), cudaMemcpyDeviceToHost));
  ASSIGN_OR_RETURN(probe->from_host, rate(one.data(), host.data(), cudaMemcpyHostToDevice));
  ASSIGN_OR_RETURN(probe->within, rate(other.data(), one.data(), cudaMemcpyDeviceToDevice));
  // A peer that is full, say, says nothing about this one.
  if (probe->peer >= 0 && !MeasurePeer(probe).ok()) probe->peer = -1;
  return absl::OkStatus();
}

absl::StatusOr<CudaProbe> Probe(int32_t device, int32_t count) {
  cudaDeviceProp properties;
  size_t free_bytes = 0;
  size_t total_bytes = 0;
  RETURN_IF_ERROR(ToStatus(cudaGetDeviceProperties(&properties, device)));
  RETURN_IF_ERROR(ToStatus(cudaSetDevice(device)));
  RETURN_IF_ERROR(ToStatus(cudaMemGetInfo(&free_bytes, &total_bytes)));
  CudaProbe probe{.device = device,
                  .name = properties.name,
                  .compute_capability = properties.major * 10 + properties.minor,
                  .memory_bytes = static_cast<int64_t>(total_bytes),
                  .free_bytes = static_cast<int64_t>(free_bytes),
                  .peer = count > 1 ? (device + 1) % count : -1,
                  .memory = TransportMemoryKind::kKind};
  const absl::Status measured = Measure(&probe);
  if (!measured.ok()) probe.problem = std::string(measured.message());
  return probe;
}

}  // namespace

absl::StatusOr<std::vector<CudaProbe>> ProbeCudaDevices() {
  int count = 0;
  const cudaError_t error = cudaGetDeviceCount(&count);
  if (error != cudaSuccess || count == 0) {
    cudaGetLastError();  // it is told here
    return absl::NotFoundError(
        absl::StrCat("no CUDA device: ", cudaGetErrorName(error), ", ", cudaGetErrorString(error)));
  }
  std::vector<CudaProbe> probes;
  for (int32_t device = 0; device < count; ++device) {
    absl::StatusOr<CudaProbe> probe = Probe(device, count);
    if (!probe.ok()) probe = {.device = device, .problem = std::string(probe.status().message())};
    probes.push_back(*std::move(probe));
  }
  return probes;
}

}  // namespace baton
