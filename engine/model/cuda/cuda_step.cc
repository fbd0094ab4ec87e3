#include "engine/model/cuda/cuda_step.h"

#include <algorithm>
#include <span>

#include "absl/strings/str_cat.h"
#include "common/check.h"
#include "common/kv_layout.h"

namespace baton {
namespace {

constexpr size_t kAlignment = 16;

absl::Status TooMany(int32_t count, const char* what, int32_t allowed) {
  return absl::InvalidArgumentError(absl::StrCat(
      "forward: ", count, " ", what, " in a step; the device was set up for ", allowed));
}

int32_t End(const AttentionSequence& sequence) {
  return sequence.start_position + sequence.num_rows;
}

}  // namespace

CudaStepInputs::Offsets CudaStepInputs::LayOut(int32_t rows, int32_t sequences,
                                               int32_t logit_rows) {
  size_t end = 0;
  const auto place = [&](int32_t count, size_t bytes) {
    const size_t offset = end;
    end += (static_cast<size_t>(count) * bytes + kAlignment - 1) / kAlignment * kAlignment;
    return offset;
  };
  Offsets offsets;
  offsets.tokens = place(rows, sizeof(TokenId));
  offsets.draws = place(rows, sizeof(int32_t));
  offsets.positions = place(rows, sizeof(int32_t));
  offsets.slots = place(rows, sizeof(KvSlot));
  offsets.sequences = place(sequences, sizeof(CudaSequence));
  offsets.logit_rows = place(logit_rows, sizeof(int32_t));
  offsets.block_tables = end;
  return offsets;
}

absl::StatusOr<CudaStepInputs> CudaStepInputs::Create(const CudaStepLimits& limits) {
  CudaStepInputs inputs(limits);
  const auto blocks = static_cast<size_t>(limits.max_sequences) *
                      static_cast<size_t>(BlocksForTokens(limits.max_positions, limits.block_size));
  const size_t bytes =
      LayOut(limits.max_rows, limits.max_sequences, limits.max_logit_rows).block_tables +
      blocks * sizeof(int32_t);
  for (Staging& staging : inputs.staging_) {
    ASSIGN_OR_RETURN(staging.memory, PinnedArray<std::byte>::Create(bytes));
    ASSIGN_OR_RETURN(staging.copied, CudaEvent::Create());
  }
  ASSIGN_OR_RETURN(inputs.device_, DeviceArray<std::byte>::Create(bytes));
  return inputs;
}

absl::Status CudaStepInputs::Check(const StepInputs& inputs) const {
  const auto sequences = static_cast<int32_t>(inputs.sequences.size());
  const auto logit_rows = static_cast<int32_t>(inputs.logit_rows.size());
  if (inputs.rows() > limits_.max_rows) return TooMany(inputs.rows(), "tokens", limits_.max_rows);
  if (sequences > limits_.max_sequences) {
    return TooMany(sequences, "sequences", limits_.max_sequences);
  }
  if (logit_rows > limits_.max_logit_rows) {
    return TooMany(logit_rows, "rows of logits", limits_.max_logit_rows);
  }
  for (const AttentionSequence& sequence : inputs.sequences) {
    if (End(sequence) > limits_.max_positions) {
      return TooMany(End(sequence), "positions of a sequence", limits_.max_positions);
    }
  }
  return absl::OkStatus();
}

CudaStepShape CudaStepInputs::ShapeOf(const StepInputs& inputs) const {
  CudaStepShape shape{.rows = inputs.rows(),
                      .logit_rows = static_cast<int32_t>(inputs.logit_rows.size())};
  for (const AttentionSequence& sequence : inputs.sequences) {
    CudaStepShape::Sequences& its = IsDecode(sequence) ? shape.decode : shape.prefill;
    ++its.count;
    its.max_rows = std::max(its.max_rows, sequence.num_rows);
    its.max_positions = std::max(its.max_positions, End(sequence));
  }
  return shape;
}

void CudaStepInputs::FillRows(const StepInputs& inputs, const CudaStepShape& shape,
                              const Offsets& offsets) {
  const auto fill = [&]<typename T>(const std::vector<T>& values, int32_t count, size_t offset,
                                    const T& padding) {
    T* end = std::copy(values.begin(), values.end(), Staged<T>(offset));
    std::fill(end, Staged<T>(offset) + count, padding);
  };
  fill(inputs.tokens, shape.rows, offsets.tokens, TokenId{0});
  fill(inputs.draws, shape.rows, offsets.draws, -1);
  fill(inputs.positions, shape.rows, offsets.positions, 0);
  fill(inputs.slots, shape.rows, offsets.slots, KvSlot{.block = BlockId(-1)});
  fill(inputs.logit_rows, shape.logit_rows, offsets.logit_rows, 0);
}

size_t CudaStepInputs::FillSequences(const StepInputs& inputs, const CudaStepShape& shape,
                                     const Offsets& offsets) {
  auto* sequences = Staged<CudaSequence>(offsets.sequences);
  auto* tables = Staged<int32_t>(offsets.block_tables);
  CudaSequence* decode = sequences;
  CudaSequence* prefill = sequences + shape.decode.count;
  std::fill_n(sequences, shape.decode.count + shape.prefill.count, CudaSequence{});
  int32_t table_end = 0;
  for (const AttentionSequence& sequence : inputs.sequences) {
    CudaSequence*& target = IsDecode(sequence) ? decode : prefill;
    *target++ = {.row_begin = sequence.row_begin,
                 .num_rows = sequence.num_rows,
                 .start_position = sequence.start_position,
                 .table_begin = table_end};
    const auto blocks = static_cast<size_t>(BlocksForTokens(End(sequence), limits_.block_size));
    for (const BlockId block : sequence.block_table.first(blocks)) {
      tables[table_end++] = block.value();
    }
  }
  return static_cast<size_t>(table_end);
}

CudaStepPointers CudaStepInputs::Upload(const CudaContext& context, const StepInputs& inputs,
                                        const CudaStepShape& shape) {
  const Offsets offsets =
      LayOut(shape.rows, shape.decode.count + shape.prefill.count, shape.logit_rows);
  at_ = (at_ + 1) % staging_.size();
  const Staging& staging = staging_[at_];
  staging.copied.Wait(context);
  FillRows(inputs, shape, offsets);
  const size_t blocks = FillSequences(inputs, shape, offsets);
  const size_t bytes = offsets.block_tables + blocks * sizeof(int32_t);
  BATON_CHECK(bytes <= staging.memory.size()) << bytes << "of" << staging.memory.size();
  baton::Upload(context, std::span<const std::byte>(staging.memory.data(), bytes), &device_);
  staging.copied.Record(context);
  return {.tokens = OnDevice<TokenId>(offsets.tokens),
          .draws = OnDevice<int32_t>(offsets.draws),
          .positions = OnDevice<int32_t>(offsets.positions),
          .slots = OnDevice<KvSlot>(offsets.slots),
          .sequences = OnDevice<CudaSequence>(offsets.sequences),
          .logit_rows = OnDevice<int32_t>(offsets.logit_rows),
          .block_tables = OnDevice<int32_t>(offsets.block_tables)};
}

}  // namespace baton
