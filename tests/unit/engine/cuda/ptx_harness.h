// Runs PTX that a test has written.
#pragma once

#include <cuda_runtime.h>
#include <gtest/gtest.h>

#include <cstdint>
#include <cstring>
#include <memory>
#include <string>
#include <vector>

#include "tests/support/ptx/interpreter.h"
#include "tests/support/ptx/parser.h"

namespace baton::ptx {

// A module of one kernel, with a pointer as its parameter, which is in %rd0.
inline std::string KernelText(const std::string& body) {
  return R"(.version 9.0
.target sm_90a
.address_size 64
.extern .shared .align 1024 .b8 dynamic[];
.global .align 4 .b8 table[8] = {1, 2, 3, 4, 5, 6, 7, 8};
.visible .entry test(
  .param .u64 test_param_0
)
.maxntid 128, 1, 1
{
  .reg .pred %p<10>;
  .reg .b16 %rs<10>;
  .reg .b32 %r<100>;
  .reg .f32 %f<100>;
  .reg .b64 %rd<20>;
  .reg .f64 %fd<10>;
  .local .align 8 .b8 depot[16];
  .shared .align 8 .b8 held[64];
  ld.param.u64 %rd0, [test_param_0];
)" + body +
         R"(
  ret;
}
)";
}

struct PtxLaunch {
  unsigned threads = 1;
  size_t shared_bytes = 0;
  unsigned blocks = 1;
};

// The device memory that %rd0 points to, of these words, when the kernel has ended.
inline std::vector<uint32_t> RunPtx(const std::string& body, std::vector<uint32_t> memory,
                                    const PtxLaunch& launch = {}) {
  const std::unique_ptr<Module> module = Parse(KernelText(body));
  const size_t bytes = memory.size() * sizeof(uint32_t);
  void* device = nullptr;
  EXPECT_EQ(cudaMalloc(&device, bytes), cudaSuccess);
  EXPECT_EQ(cudaMemcpy(device, memory.data(), bytes, cudaMemcpyHostToDevice), cudaSuccess);
  std::vector<std::byte> params(sizeof(device));
  std::memcpy(params.data(), &device, sizeof(device));
  const cudaLaunchConfig_t config{.gridDim = dim3(launch.blocks),
                                  .blockDim = dim3(launch.threads),
                                  .dynamicSmemBytes = launch.shared_bytes};
  const Kernel& kernel = *module->kernels.front();
  EXPECT_EQ(cuda_emulation::EnqueueKernel(config, module.get(),
                                          [&] { RunThread(kernel, params.data()); }),
            cudaSuccess);
  EXPECT_EQ(cudaMemcpy(memory.data(), device, bytes, cudaMemcpyDeviceToHost), cudaSuccess);
  EXPECT_EQ(cudaFree(device), cudaSuccess);
  return memory;
}

}  // namespace baton::ptx
