// A loaded model that can run one forward pass over a batch of sequences on a paged KV cache.
#pragma once

#include <cstdint>
#include <functional>
#include <memory>
#include <span>
#include <string>
#include <vector>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "common/ids.h"
#include "common/kv_layout.h"
#include "engine/model/model_shard.h"
#include "engine/parallel/communicator.h"

namespace baton {

struct OpTimes;

// What the rest of Baton needs to know of a model.
struct ModelInfo {
  std::string name;          // what clients ask for
  std::string architecture;  // "LlamaForCausalLM"
  std::string weight_dtype;  // "bf16"
  int32_t num_layers = 0;
  int32_t hidden_size = 0;
  int32_t num_heads = 0;
  int32_t num_kv_heads = 0;
  int32_t head_dim = 0;
  int32_t vocab_size = 0;
  int32_t max_model_len = 0;  // tokens, prompt and output together
  int64_t num_parameters = 0;
  int64_t weight_bytes = 0;
  uint64_t fingerprint = 0;  // config, weights and dtype: equal on workers that may exchange KV
  std::vector<TokenId> eos_tokens;
  std::string kernels;  // "avx512-bf16"
};

// One sequence's share of a forward pass: `tokens` at positions start_position, start_position + 1…
// Their KV is written to the blocks, and they attend to everything before them.
struct ForwardSequence {
  std::span<const TokenId> tokens;       // [num_tokens], at least 1
  int32_t start_position = 0;            // tokens already in the cache
  std::span<const BlockId> block_table;  // covers start_position + num_tokens tokens
  // Logits are computed for tokens[first_logit_token …]; num_tokens means for none.
  int32_t first_logit_token = 0;
  // At least 0: `tokens` is only a place for one, which the draw of this number of the step before
  // gives. Only a CudaModel takes it: its device, or that of rank 0, knows the token.
  int32_t draw = -1;
};

// Rows of all sequences in order, then of each sequence's tokens in order.
struct Logits {
  std::vector<float> values;  // [num_rows, vocab_size] f32
  int32_t num_rows = 0;
  int32_t vocab_size = 0;
  std::span<const float> Row(int32_t row) const {
    return {values.data() + static_cast<size_t>(row) * vocab_size, static_cast<size_t>(vocab_size)};
  }
  std::span<float> MutableRow(int32_t row) {
    return {values.data() + static_cast<size_t>(row) * vocab_size, static_cast<size_t>(vocab_size)};
  }
};

// Called on the forward pass's thread once the KV of every row is final in `layer`.
using LayerDoneFn = std::function<void(int32_t layer)>;
// done and total bytes while weights load; at last, once all are in place, total and total.
using LoadProgressFn = std::function<void(int64_t done_bytes, int64_t total_bytes)>;

// What an operator should know of a load that went on in any case.
struct LoadNote {
  bool warning = false;
  std::string event;  // "packed weights used"
  std::string file;
  std::string why;  // empty: as intended
};
using LoadNoteFn = std::function<void(const LoadNote&)>;

struct ModelOptions {
  // A Hugging Face directory, or "dummy:CONFIG.json" for random weights of that config.
  std::string path;
  bool dummy_weights = false;  // --load-format dummy: take only config.json from `path`
  std::string served_name;     // empty: the directory's name
  int32_t num_threads = 1;
  std::vector<int32_t> pin_cpus;  // empty: not pinned; else one CPU for each thread
  int32_t block_size = 16;
  bool f32 = false;  // compute and KV in f32 (golden tests); default bf16 weights and KV
  // Empty: bf16 or f32, as `f32` says. Rounded at load: "int8", "int4", and on CUDA "fp8".
  std::string weights;
  std::string kv_dtype;  // empty: bf16 or f32, as `f32` says; "int8"
  std::string isa;       // empty: the best that the CPU has; "avx2", "avx512", "avx512-bf16"
  // Directory where packed weights are kept between loads; empty: they are packed each time.
  std::string packed_cache;
  LoadNoteFn note;   // called while loading; may be null
  ModelShard shard;  // this process's part of the model, of a group that computes it together
  // Joins the group; called once, when this part of the model is loaded. Not for a whole model.
  std::function<absl::StatusOr<std::unique_ptr<Communicator>>()> connect;
  // Where Forward adds what each kind of op took; borrowed for the model's life. Null: not
  // measured.
  OpTimes* op_times = nullptr;
};

// Not thread-safe: one step loop owns it. Batch-invariant: a row's logits depend only on its own
// sequence's tokens, bit for bit, whatever else is in the batch and however it was chunked.
class Model {
 public:
  // Errors name file and field. `progress` may be null.
  static absl::StatusOr<std::unique_ptr<Model>> Load(const ModelOptions& options,
                                                     const LoadProgressFn& progress);
  virtual ~Model() = default;

  virtual const ModelInfo& info() const = 0;
  // Of the KV heads that this process computes.
  virtual KvLayout kv_layout() const = 0;

  // `kv` has this model's kv_layout(). With tensor parallelism every rank calls it with the same
  // batch at the same time; only rank 0 gets logits, the others no rows of them. UNAVAILABLE: a
  // rank is gone. Allocates nothing once `logits` and the scratch have grown to the largest batch
  // seen.
  virtual absl::Status Forward(std::span<const ForwardSequence> batch, const KvRegion& kv,
                               const LayerDoneFn& layer_done, Logits* logits) = 0;
  // Before the first Forward: does what would make the first steps on `kv` longer than later ones,
  // for decode steps of up to `max_sequences`, and returns for how many kinds of them. Changes no
  // KV. With tensor parallelism every rank calls it, as Forward.
  virtual absl::StatusOr<int32_t> WarmUp(int32_t /*max_sequences*/, const KvRegion& /*kv*/) {
    return 0;
  }
  // What is known, without waiting, of the device that computes; an error means that nothing more
  // will come of it. Between calls of the others.
  virtual absl::Status Health() { return absl::OkStatus(); }
  // In the order given, before the next Forward; `from` and `to` of one copy differ.
  virtual absl::Status CopyBlocks(std::span<const KvBlockCopy> copies, const KvRegion& kv) {
    CopyKvBlocks(copies, kv);
    return absl::OkStatus();
  }
};

}  // namespace baton
