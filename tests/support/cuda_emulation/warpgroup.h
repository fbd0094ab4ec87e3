// wgmma on the host: see engine/kernels/cuda/wgmma.h.
//
// A product is computed when the last thread of the warpgroup starts it, from shared memory as it
// is then, and the sums come in the wait; until then they are NaN where the kernel can see them.
// What hardware leaves undefined ends the process with a message: registers that no fence handed
// over since they were changed, or that are touched while a product has them; shared memory that
// changes before all threads have waited, that is still being copied to, or whose copies no proxy
// fence followed; a thread of the warpgroup that does not come to a product, or with other
// arguments. Fences, commits and waits are each thread's own here: that all come to them is not
// looked at, nor whether a proxy fence followed plain stores to shared memory.
//
// All functions: from a thread of a kernel.
#pragma once

#include <array>
#include <cstddef>
#include <cstdint>
#include <deque>
#include <memory>
#include <vector>

#include "tests/support/cuda_emulation/block.h"

namespace baton::cuda_emulation {

struct Product {
  float* d = nullptr;  // [columns / 8][4]
  int columns = 0;
  const uint32_t* a = nullptr;  // [4]
  uint64_t b = 0;               // descriptor
  bool n_major = false;
  bool adds = true;
};

// Where the instructions see a place in dynamic shared memory.
uint32_t SharedAddress(const void* shared);
// wgmma.fence: these registers are the next products' to take.
void HandOver(void* registers, size_t bytes, const Place& where);
void StartProduct(const Product& product, const Place& where);
void CommitProducts();
void WaitForProducts(int pending, const Place& where);
// These registers are the thread's again.
void TakeBack(const void* registers, size_t bytes, const Place& where);

// The second matrix of a product.
struct SharedOperand {
  uint64_t descriptor = 0;
  bool n_major = false;
  int columns = 0;
  const void* code = nullptr;       // where the kernel starts the product
  std::vector<uint16_t> numbers;    // [16][columns] as they were when the product was started
  int threads = kWarpgroupThreads;  // that have not waited for it
};

// What one thread has under way.
struct ProductsOfThread {
  struct Registers {  // as a fence found them
    const std::byte* begin;
    std::vector<std::byte> contents;
  };
  struct Sums {  // that the kernel will find in `d`
    float* d;
    std::vector<float> values;
    int products;
  };
  struct Started {
    const float* d;
    const uint32_t* a;
    std::array<uint32_t, 4> a_contents;
    std::shared_ptr<SharedOperand> b;  // with the warpgroup's other threads
  };
  std::vector<Registers> handed_over;
  std::vector<Sums> sums;
  std::vector<Started> uncommitted;
  std::deque<std::vector<Started>> groups;

  void Clear() {  // keeps memory, unlike a new one
    handed_over.clear();
    sums.clear();
    uncommitted.clear();
    groups.clear();
  }
};
// Of the running thread.
ProductsOfThread& CurrentProducts();

}  // namespace baton::cuda_emulation
