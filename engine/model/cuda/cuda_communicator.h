// What the ranks of a tensor-parallel group, a device each, do together in a step.
#pragma once

#include <cstddef>
#include <cstdint>

#include "engine/kernels/cuda/context.h"

namespace baton {

// Operations are enqueued on the context's stream, into the graph that it captures if it does, and
// return at once. Every rank enqueues the same ones in the same order with the same sizes. Not
// thread-safe. What goes wrong is noted in the context; the group is of no further use then.
class CudaCommunicator {
 public:
  virtual ~CudaCommunicator() = default;

  // numbers = the sum of every rank's, the same bits on every rank. In which order they are added
  // may depend on `count` and on where a number is.
  virtual void AllReduceSum(const CudaContext& context, float* numbers, size_t count) = 0;
  // all[r * count …] = mine of rank r, on every rank. `all` is not `mine`.
  virtual void AllGather(const CudaContext& context, const float* mine, float* all,
                         size_t count) = 0;
  // numbers = rank 0's, on every rank.
  virtual void Broadcast(const CudaContext& context, int32_t* numbers, size_t count) = 0;
  // Of ours; libraries take what they need beside.
  virtual int64_t device_bytes() const { return 0; }
};

}  // namespace baton
