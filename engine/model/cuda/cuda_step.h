// What a step tells the device of its batch: one piece of memory, written on the host and copied at
// once.
#pragma once

#include <array>
#include <cstddef>
#include <cstdint>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "common/ids.h"
#include "engine/kernels/cuda/attention.h"
#include "engine/kernels/cuda/context.h"
#include "engine/kernels/cuda/device_array.h"
#include "engine/kernels/cuda/event.h"
#include "engine/kernels/kv_write.h"
#include "engine/model/step_inputs.h"

namespace baton {

// Of any step; all above 0.
struct CudaStepLimits {
  int32_t max_rows = 0;
  int32_t max_logit_rows = 0;
  int32_t max_sequences = 0;
  int32_t max_positions = 0;  // of one sequence
  int32_t block_size = 0;
  // A sequence with as many rows, or fewer, has its attention computed as a decode row's.
  int32_t decode_rows = 1;
};

// Upper bounds of a step's values, known on the host: what shapes its launches. A captured step may
// be replayed with any batch within them.
struct CudaStepShape {
  struct Sequences {
    int32_t count = 0;
    int32_t max_rows = 0;       // of one
    int32_t max_positions = 0;  // of one
  };
  int32_t rows = 0;
  int32_t logit_rows = 0;
  Sequences decode;   // those of few rows
  Sequences prefill;  // the others
};

// Device memory.
struct CudaStepPointers {
  TokenId* tokens = nullptr;                // [rows]
  const int32_t* draws = nullptr;           // [rows], as StepInputs::draws
  const int32_t* positions = nullptr;       // [rows]
  const KvSlot* slots = nullptr;            // [rows]
  const CudaSequence* sequences = nullptr;  // [decode.count + prefill.count], in this order
  const int32_t* logit_rows = nullptr;      // [logit_rows]
  const int32_t* block_tables = nullptr;    // of all sequences, one after another
};

// Not thread-safe. Allocates only when it is made. The context outlives it.
class CudaStepInputs {
 public:
  static absl::StatusOr<CudaStepInputs> Create(const CudaStepLimits& limits);

  int64_t device_bytes() const { return static_cast<int64_t>(device_.bytes()); }
  // INVALID_ARGUMENT: more than the limits allow of anything, with the numbers.
  absl::Status Check(const StepInputs& inputs) const;
  CudaStepShape ShapeOf(const StepInputs& inputs) const;
  // Enqueues the copy of `inputs`, filled up to `shape` with rows that are written nowhere and
  // sequences without rows. The same shape gives the same pointers. Waits for the copy of the last
  // step but one. REQUIRES: within the limits, and inputs within the shape.
  CudaStepPointers Upload(const CudaContext& context, const StepInputs& inputs,
                          const CudaStepShape& shape);

 private:
  explicit CudaStepInputs(const CudaStepLimits& limits) : limits_(limits) {}
  // Where each array starts, in bytes.
  struct Offsets {
    size_t tokens = 0;
    size_t draws = 0;
    size_t positions = 0;
    size_t slots = 0;
    size_t sequences = 0;
    size_t logit_rows = 0;
    size_t block_tables = 0;
  };
  static Offsets LayOut(int32_t rows, int32_t sequences, int32_t logit_rows);
  bool IsDecode(const AttentionSequence& sequence) const {
    return sequence.num_rows <= limits_.decode_rows;
  }
  void FillRows(const StepInputs& inputs, const CudaStepShape& shape, const Offsets& offsets);
  // Returns how many blocks the tables have.
  size_t FillSequences(const StepInputs& inputs, const CudaStepShape& shape,
                       const Offsets& offsets);
  template <typename T>
  T* Staged(size_t offset) {
    return reinterpret_cast<T*>(staging_[at_].memory.data() + offset);
  }
  template <typename T>
  T* OnDevice(size_t offset) {
    return reinterpret_cast<T*>(device_.data() + offset);
  }

  struct Staging {
    PinnedArray<std::byte> memory;
    CudaEvent copied;
  };

  CudaStepLimits limits_;
  std::array<Staging, 2> staging_;  // in turn: a step may wait on the device behind another
  size_t at_ = 0;                   // of the step that is uploaded
  DeviceArray<std::byte> device_;
};

}  // namespace baton
