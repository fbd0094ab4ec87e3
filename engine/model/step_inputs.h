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
  std::vector<TokenId> tokens;               // [rows]
  std::vector<int32_t> draws;                // [rows], as ForwardSequence::draw
  std::vector<int32_t> positions;            // [rows]
  std::vector<KvSlot> slots;                 // [rows]
  std::vector<AttentionSequence> sequences;  // [batch]; views of the caller's block tables
  AttentionPlan attention;                   // of PlanForThreads
  std::vector<int32_t> logit_rows;           // rows whose logits are asked for, ascending

  int32_t rows() const { return static_cast<int32_t>(tokens.size()); }
  bool HasDraws() const;  // of the step before, among the tokens
  // Refills all of it but the plan, keeping the memory. INVALID_ARGUMENT names the sequence and
  // what is wrong with it; then nothing has been computed or written.
  absl::Status Fill(std::span<const ForwardSequence> batch, const KvRegion& kv,
                    const ModelConfig& config);
  // Puts the sequences in the order of their block tables and plans their attention on the CPU.
  void PlanForThreads(const ModelConfig& config, int32_t block_size, int32_t num_threads);
  // So that steps within these bounds allocate nothing.
  void Reserve(int32_t max_rows, int32_t max_sequences);

 private:
  void Clear();
  void AddSequence(const ForwardSequence& sequence, int32_t block_size);
};

}  // namespace baton
