#include "tests/unit/engine/scheduler/cluster.h"

#include <gtest/gtest.h>

#include <algorithm>
#include <cstring>

#include "common/check.h"
#include "common/kv_layout.h"

namespace baton {

Node::Node(std::string node_name, const SchedulerOptions& scheduler_options,
           std::optional<StepModel> step_model, bool on_device)
    : name(std::move(node_name)),
      options(scheduler_options),
      model(options.block_size, options.max_model_len),
      kv(model.kv_layout(), options.num_blocks),
      tracker(step_model ? std::optional<StepModelTracker>(*step_model) : std::nullopt),
      scheduler(Scheduler::Create(options)),
      device(&model),
      host_sampler(model.info().vocab_size),
      runner(on_device ? static_cast<Model*>(&device) : &model, kv.region(), scheduler.get(),
             on_device ? static_cast<StepSampler*>(&device) : &host_sampler,
             on_device ? options.max_batch_sequences : 0) {
  if (tracker) scheduler->SetStepModel(&*tracker);
}

absl::StatusOr<SequenceId> Node::Add(const GenerationSpec& spec, SequenceMode mode,
                                     const SequenceObjective& objective) {
  ASSIGN_OR_RETURN(const SequenceId id, scheduler->Add(spec, mode, objective));
  Watch(id, spec, mode);
  return id;
}

absl::StatusOr<Reservation> Node::Reserve(const GenerationSpec& spec,
                                          const SequenceObjective& objective) {
  ASSIGN_OR_RETURN(Reservation reservation, scheduler->Reserve(spec, objective));
  Watch(reservation.sequence, spec, SequenceMode::kGenerate);
  return reservation;
}

void Node::Watch(SequenceId id, const GenerationSpec& spec, SequenceMode mode) {
  const auto samples = static_cast<size_t>(spec.num_samples);
  Watched sequence{.spec = spec, .mode = mode};
  for (int32_t i = 0; i < spec.num_samples; ++i) {
    sequence.expected.push_back(RunAlone(spec, spec.first_sample + i, options));
  }
  sequence.received.resize(samples);
  sequence.finished.resize(samples);
  watched.emplace(id, std::move(sequence));
}

void Node::Seal(SequenceId id) {
  Watched& sequence = watched.at(id);
  sequence.next_prompt_logprob = sequence.spec.prompt_length;  // given by prefill
  std::vector<TokenId> first_tokens;
  for (size_t i = 0; i < sequence.expected.size(); ++i) {
    first_tokens.push_back(sequence.expected[i].tokens[0].token);
    sequence.received[i] = 1;
  }
  const absl::Status sealed = scheduler->Seal(id, first_tokens);
  EXPECT_TRUE(sealed.ok()) << sealed.ToString();
}

void Node::Abort(SequenceId id, bool keep_pinned) {
  scheduler->Abort(id, keep_pinned);
  watched.erase(id);
}

void Node::AbortBranch(SequenceId id, int32_t sample) {
  scheduler->AbortBranch(id, sample);
  if (const auto found = watched.find(id); found != watched.end()) {
    found->second.aborted_samples.insert(sample);
  }
}

void Node::Step(const std::function<void()>& during, bool may_run_ahead) {
  in_step = true;
  const auto layer_done = [&](int32_t layer, const StepPlan& plan) {
    if (layer == 0) copies += static_cast<int64_t>(plan.copies.size());
    if (during) during();
  };
  const absl::StatusOr<StepResult> result = runner.Run(layer_done, nullptr, may_run_ahead);
  in_step = false;
  ASSERT_TRUE(result.ok()) << result.status().ToString();
  CheckPromptLogprobs(*result);
  Check(result->events);
}

void Node::Check(const std::vector<SequenceEvent>& events) {
  for (const SequenceEvent& event : events) {
    const auto found = watched.find(event.sequence);
    if (found == watched.end()) {
      ADD_FAILURE() << "event for sequence " << event.sequence << ", which has ended";
      continue;
    }
    Watched& sequence = found->second;
    if (const auto* token = std::get_if<SequenceEvent::Token>(&event.what)) {
      CheckToken(sequence, token->output);
    } else if (const auto* finished = std::get_if<SequenceEvent::BranchFinished>(&event.what)) {
      CheckFinish(sequence, finished->finish);
    } else if (std::holds_alternative<SequenceEvent::PromptDone>(event.what)) {
      EXPECT_EQ(sequence.mode, SequenceMode::kPrefillOnly);
      for (const size_t received : sequence.received) EXPECT_EQ(received, 1u);
      CheckPromptLogprobsComplete(sequence);
      sequence.prompt_done = true;
    } else if (std::holds_alternative<SequenceEvent::Done>(event.what)) {
      CheckDone(sequence);
      watched.erase(found);
    } else {
      CheckFailed(sequence, std::get<SequenceEvent::Failed>(event.what).status);
      watched.erase(found);
      ++failed;
    }
  }
}

void Node::CheckToken(Watched& sequence, const TokenOutput& output) {
  const int32_t emitted =
      static_cast<int32_t>(sequence.spec.tokens.size()) - sequence.spec.prompt_length;
  const auto sample = static_cast<size_t>(output.sample - sequence.spec.first_sample);
  ASSERT_LT(sample, sequence.expected.size());
  EXPECT_FALSE(sequence.finished[sample]);
  const size_t at = sequence.received[sample]++;
  EXPECT_EQ(output.index, emitted + static_cast<int32_t>(at));
  ASSERT_LT(at, sequence.expected[sample].tokens.size());
  const SampledToken& expected = sequence.expected[sample].tokens[at];
  EXPECT_EQ(output.token, expected.token) << name << ": sample " << sample << " token " << at;
  EXPECT_EQ(output.logprob, expected.logprob);
  ASSERT_EQ(output.top_logprobs.size(), expected.top_logprobs.size());
  for (size_t i = 0; i < expected.top_logprobs.size(); ++i) {
    EXPECT_EQ(output.top_logprobs[i].token, expected.top_logprobs[i].token);
    EXPECT_EQ(output.top_logprobs[i].logprob, expected.top_logprobs[i].logprob);
  }
}

void Node::CheckFinish(Watched& sequence, const SampleFinish& finish) {
  const auto sample = static_cast<size_t>(finish.sample - sequence.spec.first_sample);
  ASSERT_LT(sample, sequence.expected.size());
  EXPECT_FALSE(sequence.finished[sample]) << "a sample finished twice";
  EXPECT_FALSE(sequence.aborted_samples.contains(finish.sample));
  const ExpectedSample& expected = sequence.expected[sample];
  EXPECT_EQ(sequence.received[sample], expected.tokens.size());
  EXPECT_EQ(finish.reason, expected.finish.reason);
  EXPECT_EQ(finish.stop_token, expected.finish.stop_token);
  EXPECT_EQ(finish.output_tokens, expected.finish.output_tokens);
  sequence.finished[sample] = true;
  ++finished_samples;
}

void Node::CheckDone(const Watched& sequence) {
  CheckPromptLogprobsComplete(sequence);
  for (size_t i = 0; i < sequence.finished.size(); ++i) {
    const int32_t sample = sequence.spec.first_sample + static_cast<int32_t>(i);
    EXPECT_TRUE(sequence.finished[i] || sequence.aborted_samples.contains(sample))
        << "Done, but sample " << sample << " has not finished";
  }
}

void Node::CheckPromptLogprobsComplete(const Watched& sequence) {
  if (sequence.spec.sampling.num_prompt_logprobs < 0) return;
  EXPECT_EQ(sequence.next_prompt_logprob, sequence.spec.prompt_length);
}

void Node::CheckFailed(const Watched& sequence, const absl::Status& status) {
  EXPECT_EQ(status.code(), absl::StatusCode::kResourceExhausted) << status.ToString();
  EXPECT_NE(status.ToString().find("kv_exhausted"), std::string::npos);
  size_t longest = 0;
  for (const size_t received : sequence.received) {
    longest = std::max(longest, sequence.spec.tokens.size() + received);
  }
  EXPECT_GT(BlocksForTokens(static_cast<int32_t>(longest), options.block_size), options.num_blocks)
      << "failed, though its " << longest << " tokens fit the pool";
}

void Node::CheckPromptLogprobs(const StepResult& result) {
  Sampler sampler(kHistoryVocab);
  for (const StepResult::PromptLogprobs& scored : result.prompt_logprobs) {
    const auto found = watched.find(scored.sequence);
    if (found == watched.end()) continue;  // aborted during the step
    Watched& sequence = found->second;
    std::vector<float> logits(kHistoryVocab);
    for (const TokenOutput& output : scored.tokens) {
      ASSERT_EQ(output.index, sequence.next_prompt_logprob++);
      uint64_t history = 0;
      for (int32_t p = 0; p < output.index; ++p) {
        history = ExtendHistory(history, sequence.spec.tokens[static_cast<size_t>(p)], p);
      }
      HistoryLogits(history, logits);
      const TokenId token = sequence.spec.tokens[static_cast<size_t>(output.index)];
      const auto expected =
          sampler.Score(logits, token, sequence.spec.sampling.num_prompt_logprobs);
      EXPECT_EQ(output.token, token);
      EXPECT_EQ(output.logprob, expected->logprob);
      EXPECT_EQ(output.top_logprobs.size(), expected->top_logprobs.size());
    }
  }
}

bool HoldsKvOf(const GenerationSpec& spec, std::span<const BlockId> blocks, const KvRegion& kv) {
  HistoryModel model(kv.layout.block_size, static_cast<int32_t>(spec.tokens.size()) + 1);
  TestKv alone(kv.layout, static_cast<int32_t>(blocks.size()));
  std::vector<BlockId> table;
  for (size_t i = 0; i < blocks.size(); ++i) table.emplace_back(static_cast<int32_t>(i));
  const ForwardSequence row{.tokens = spec.tokens, .block_table = table};
  Logits logits;
  BATON_CHECK_OK(model.Forward({&row, 1}, alone.region(), nullptr, &logits));
  const auto block_size = static_cast<size_t>(kv.layout.block_size);
  const size_t token_bytes = static_cast<size_t>(kv.layout.BlockBytes()) / block_size / 2;
  for (size_t t = 0; t < spec.tokens.size(); ++t) {
    const size_t offset = t % block_size * token_bytes;
    for (int32_t layer = 0; layer < kv.layout.num_layers; ++layer) {
      const std::byte* expected = alone.region().Block(layer, table[t / block_size]) + offset;
      const std::byte* actual = kv.Block(layer, blocks[t / block_size]) + offset;
      if (std::memcmp(expected, actual, token_bytes) != 0) return false;
    }
  }
  return true;
}

}  // namespace baton
