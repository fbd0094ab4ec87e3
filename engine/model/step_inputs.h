// A batch of sequences laid out as rows: what a forward pass needs to know before it computes.
#pragma once

#include <cstdint>
#include <span>
#include <vector>

#include "absl/status/status.h"
#include "common/ids.h"
#include "common/kv_layout.h"
#include "engine/kernels/kv_write.h"
#include "engine/kernels/paged_attention.h"
#include "engine/model/model.h"
#include "engine/model/model_config.h"

namespace baton {

// Rows: all sequences in order, then each sequence's tokens in order.
struct StepInputs {
  std::vector<TokenId> tokens;     // [rows]
  std::vector<int32_t> positions;  // [rows]
  std::vector<KvSlot> slots;       // [rows]
  // [batch], in the order of their block tables; views of the caller's.
  std::vector<AttentionSequence> sequences;
  AttentionPlan attention;
  std::vector<int32_t> logit_rows;  // rows whose logits are asked for, ascending

  int32_t rows() const { return static_cast<int32_t>(tokens.size()); }
  // Refills all of it, keeping the memory. INVALID_ARGUMENT names the sequence and what is wrong
  // with it; then nothing has been computed or written.
  absl::Status Fill(std::span<const ForwardSequence> batch, const KvRegion& kv,
                    const ModelConfig& config, int32_t num_threads);

 private:
  void Clear();
  void AddSequence(const ForwardSequence& sequence, int32_t block_size);
};

}  // namespace baton
