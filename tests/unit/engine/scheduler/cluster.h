// Two schedulers with their own KV memory, requests that run on either or move from one to the
// other, and a check of everything that comes out against the same request run alone.
#pragma once

#include <functional>
#include <map>
#include <memory>
#include <optional>
#include <set>
#include <string>
#include <vector>

#include "engine/runtime/step_runner.h"
#include "engine/scheduler/scheduler.h"
#include "tests/unit/engine/scheduler/history_model.h"
#include "tests/unit/engine/scheduler/lagging_device.h"
#include "tests/unit/engine/scheduler/random_spec.h"

namespace baton {

// What one scheduler owes for one sequence.
struct Watched {
  GenerationSpec spec;
  SequenceMode mode = SequenceMode::kGenerate;
  std::vector<ExpectedSample> expected;  // [num_samples]
  std::vector<size_t> received;          // [num_samples] tokens so far
  std::vector<bool> finished;            // [num_samples]
  std::set<int32_t> aborted_samples;
  bool prompt_done = false;
  int32_t next_prompt_logprob = 1;
};

// One scheduler at work. Failures are reported by GoogleTest's non-fatal assertions.
class Node {
 public:
  // `on_device`: steps may start before the one in front of them is over.
  Node(std::string name, const SchedulerOptions& options,
       std::optional<StepModel> step_model = std::nullopt, bool on_device = false);

  const std::string name;
  const SchedulerOptions options;
  HistoryModel model;
  TestKv kv;
  const std::optional<StepModelTracker> tracker;
  std::unique_ptr<Scheduler> scheduler;
  LaggingDevice device;
  HostStepSampler host_sampler;
  StepRunner runner;
  std::map<SequenceId, Watched> watched;
  bool in_step = false;
  int64_t copies = 0;
  int64_t failed = 0;
  int64_t finished_samples = 0;

  absl::StatusOr<SequenceId> Add(const GenerationSpec& spec, SequenceMode mode,
                                 const SequenceObjective& objective = {});
  absl::StatusOr<Reservation> Reserve(const GenerationSpec& spec,
                                      const SequenceObjective& objective = {});
  void Seal(SequenceId id);  // with the expected first tokens, which KV in place has earned
  void Abort(SequenceId id, bool keep_pinned);
  void AbortBranch(SequenceId id, int32_t sample);
  // `during`, if given, is called while the step runs. Afterwards the next one may run.
  void Step(const std::function<void()>& during, bool may_run_ahead = true);
  void TakeEvents() { Check(scheduler->TakeEvents()); }

 private:
  void Watch(SequenceId id, const GenerationSpec& spec, SequenceMode mode);
  void Check(const std::vector<SequenceEvent>& events);
  void CheckToken(Watched& sequence, const TokenOutput& output);
  void CheckFinish(Watched& sequence, const SampleFinish& finish);
  void CheckDone(const Watched& sequence);
  void CheckFailed(const Watched& sequence, const absl::Status& status);
  void CheckPromptLogprobsComplete(const Watched& sequence);
  void CheckPromptLogprobs(const StepResult& result);
};

// Whether the KV of spec.tokens lies in `blocks`, bit for bit.
bool HoldsKvOf(const GenerationSpec& spec, std::span<const BlockId> blocks, const KvRegion& kv);

}  // namespace baton
