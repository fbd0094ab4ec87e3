// Loads a model onto a CUDA device.
#pragma once

#include <cstddef>
#include <cstdint>
#include <functional>
#include <memory>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "engine/kernels/cuda/attention.h"
#include "engine/kernels/cuda/context.h"
#include "engine/kernels/cuda/sampling.h"
#include "engine/model/cuda/cuda_communicator.h"
#include "engine/model/model.h"

namespace baton {

// What one Forward took, for measurements.
struct CudaStepTimes {
  double host_ms = 0;    // of the caller, until everything but the logits' copy to it was enqueued
  double device_ms = 0;  // from the copy of the batch until the logits lay in device memory
};

// What one step may hold, for which scratch is set aside when the model loads; and where.
struct CudaModelOptions {
  int32_t device = 0;
  int32_t max_batch_tokens = 2048;
  int32_t max_sequences = 256;
  int32_t max_logit_rows = 0;  // 0: max_sequences
  int32_t max_positions = 0;   // of one sequence; 0: what the model has
  // At most, for attention. Only decode rows of many long sequences use more; they take turns then.
  size_t attention_scratch_bytes = size_t{256} << 20;
  // Time the ways to compute each product and keep the fastest; else take what the library
  // suggests.
  bool tune_products = true;
  // A row's logits depend on its own sequence alone, bit for bit: products by kernels of our own
  // for any number of rows, see invariant_linear.h. Nothing is tuned then, and prefers_wgmma is not
  // heeded. Refused with INVALID_ARGUMENT: fp8.
  bool batch_invariant = false;
  // Start decode steps as graphs, see decode_graphs.h. They compute rows up to a power of two.
  bool use_graphs = true;
  // Prompts' attention by wgmma where there is one: see HasWgmmaAttention.
  bool prefers_wgmma = kPrefersWgmma;
  // Let kernels of a step in before those in front of them have ended, on devices that can: see
  // launch.h. No device has run it yet.
  bool dependent_launch = false;
  // Forward says only how many rows of logits there are: see CudaModel::UseLogits.
  bool logits_stay = false;
  // Makes the ranks' devices a group, of ranks that ModelOptions::connect has joined; see
  // ConnectNccl. Not for a whole model.
  std::function<absl::StatusOr<std::unique_ptr<CudaCommunicator>>(const CudaContext&,
                                                                  std::unique_ptr<Communicator>)>
      connect;
  // Where Forward leaves its times; borrowed for the model's life. Null: they are not taken.
  CudaStepTimes* step_times = nullptr;
};

class CudaModel : public Model {
 public:
  // Called inside each Forward that computes logits, once they are enqueued: [num_rows, vocab_size]
  // f32, device. What it enqueues on the context's stream runs behind them.
  using LogitsFn = std::function<absl::Status(const float* logits, int32_t num_rows)>;

  // Of all that it enqueues.
  virtual const CudaContext& context() const = 0;
  // Device memory that it holds: weights, and scratch of the largest step.
  virtual int64_t device_bytes() const = 0;
  // With logits_stay: who uses them from now on. Forward then returns before they are there, and
  // another one may follow: what it enqueues runs behind all that is there. A rank but the first
  // has none, and returns as early.
  virtual void UseLogits(LogitsFn use) = 0;
  // What the step before drew, as the next Forward will find it on the device: that one's tokens
  // may be draws, see ForwardSequence::draw. Rank 0's of several: the others are told by it.
  virtual void TakeTokensFrom(const CudaDrawnToken* drawn) = 0;
};

// A model whose activations and KV are bf16 on the device, sums and the residual f32. Its weights
// are bf16, or int8 or int4 as the CPU rounds them, bit for bit; activations stay bf16, where the
// CPU rounds them to int8 then. With fp8 the layers' weights are e4m3 with a scale for each output,
// and so are the inputs of their products, with one for each row. Its Forward refuses a batch
// beyond `cuda` with INVALID_ARGUMENT, and takes a CudaKvCache's region of the same device.
//
// Batch invariance: all ops but the products compute a row alike whatever else is in the batch. The
// products do within a bucket of rows, see CudaLinear; with quantized weights those of up to
// kMaxQuantizedRows rows all do, so decode steps of as many sequences. With
// CudaModelOptions::batch_invariant all do.
//
// A shard is by rows: by columns, products of other widths would be computed in other ways, so
// that there would be nothing to gain. Which bits the sums over the ranks have depends on them. The
// fingerprint does not name their number: bits depend on the rows of a step as well, so that KV is
// no more another model's when more devices have made it. With batch_invariant it names that, the
// number of ranks and the compute capability: workers that exchange KV then give the same answers.
//
// Of `options`, num_threads and pin_cpus are for reading weights; isa, packed_cache and op_times
// are not used. UNIMPLEMENTED: what these kernels cannot do, and why. RESOURCE_EXHAUSTED: the
// device has too little memory. See CudaContext::Create for a device that is not there. `progress`
// may be null.
absl::StatusOr<std::unique_ptr<CudaModel>> LoadCudaModel(const ModelOptions& options,
                                                         const CudaModelOptions& cuda,
                                                         const LoadProgressFn& progress);

}  // namespace baton
