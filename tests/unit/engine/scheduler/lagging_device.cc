#include "tests/unit/engine/scheduler/lagging_device.h"

#include "common/check.h"

namespace baton {

absl::Status LaggingDevice::Forward(std::span<const ForwardSequence> batch, const KvRegion& kv,
                                    const LayerDoneFn& layer_done, Logits*) {
  if (starts_none_ahead && !steps_.empty()) return absl::ResourceExhaustedError("one is enough");
  started_ahead += !steps_.empty();
  Step& step = steps_.emplace_back();
  step.kv = &kv;
  for (const ForwardSequence& sequence : batch) {
    step.rows.push_back(
        {.sequence = sequence,
         .tokens = {sequence.tokens.begin(), sequence.tokens.end()},
         .block_table = {sequence.block_table.begin(), sequence.block_table.end()}});
  }
  if (layer_done) {
    BATON_CHECK(steps_.size() == 1) << "nothing else may be under way";
    RETURN_IF_ERROR(Compute(&step, layer_done));
  }
  return add_draws_();
}

absl::Status LaggingDevice::Add(int32_t logits_row, const SampleContext& context) {
  steps_.back().draws.push_back(
      {.logits_row = logits_row,
       .sampling = context.sampling,
       .stopping = context.stopping,
       .tokens = {context.tokens.begin(), context.tokens.end()},
       .prompt_length = context.prompt_length,
       .sample = context.sample,
       .eos_tokens = {context.eos_tokens.begin(), context.eos_tokens.end()},
       .num_unknown = context.num_unknown});
  return absl::OkStatus();
}

absl::Status LaggingDevice::AddGiven(int32_t logits_row, TokenId token, int32_t num_logprobs) {
  steps_.back().draws.push_back(
      {.logits_row = logits_row, .given = token, .num_logprobs = num_logprobs});
  return absl::OkStatus();
}

absl::Status LaggingDevice::Compute(Step* step, const LayerDoneFn& layer_done) {
  std::vector<ForwardSequence> batch;
  for (Row& row : step->rows) {
    if (row.sequence.draw >= 0) {
      row.tokens[0] = drawn_.at(static_cast<size_t>(row.sequence.draw)).token;
    }
    batch.push_back(row.sequence);
    batch.back().tokens = row.tokens;
    batch.back().block_table = row.block_table;
  }
  step->computed = true;
  return model_.Forward(batch, *step->kv, layer_done, &step->logits);
}

absl::StatusOr<DrawnToken> LaggingDevice::Carry(const Step& step, const Draw& draw) {
  const std::span<const float> logits = step.logits.Row(draw.logits_row);
  if (draw.given >= 0) return sampler_.Score(logits, draw.given, draw.num_logprobs);
  return sampler_.Draw(logits, {.sampling = draw.sampling,
                                .stopping = draw.stopping,
                                .tokens = draw.tokens,
                                .prompt_length = draw.prompt_length,
                                .sample = draw.sample,
                                .eos_tokens = draw.eos_tokens,
                                .num_unknown = draw.num_unknown});
}

absl::StatusOr<std::span<DrawnToken>> LaggingDevice::Finish(const Logits&) {
  BATON_CHECK(!steps_.empty()) << "nothing is under way";
  Step step = std::move(steps_.front());
  steps_.pop_front();
  if (!step.computed) RETURN_IF_ERROR(Compute(&step, nullptr));
  drawn_.clear();
  for (const Draw& draw : step.draws) {
    ASSIGN_OR_RETURN(DrawnToken token, Carry(step, draw));
    drawn_.push_back(std::move(token));
  }
  return std::span(drawn_);
}

}  // namespace baton
