// A worker of a simulated cluster: real queues and batches, no model. How long a step takes comes
// from a step model; what it says is what a worker says to a router.
#pragma once

#include <cstdint>
#include <deque>
#include <memory>
#include <utility>
#include <vector>

#include "common/step_model.h"
#include "router/core/events.h"
#include "router/core/types.h"

namespace baton::sim {

struct SimWorkerOptions {
  router::Role role = router::Role::kBoth;
  StepModel model;
  double slowdown = 1;  // real step times over the model that the router is told, at the beginning
  int32_t batch_tokens = 512;
  int32_t batch_sequences = 64;
  int32_t credits = 8;
};

// A prompt that waits for prefill or is in it.
struct SimPrompt {
  RequestKey key;
  int32_t tokens = 0;
  int32_t done = 0;
  int32_t output = 1;                                   // tokens in all
  double tpot_ms = 0;                                   // objective; 0: none
  router::WorkerIndex destination = router::kNoWorker;  // of its KV; none: it decodes here
};

struct SimRow {
  RequestKey key;
  int32_t context = 0;
  int32_t emitted = 0;
  int32_t output = 1;
  double tpot_ms = 0;
  bool joined = false;
};

// One step's outcome: the prompts that have their first token, the rows that made one more.
struct SimStep {
  std::vector<SimPrompt> prefilled;
  std::vector<SimRow> decoded;
};

// Not thread-safe. Pure: the caller keeps the time.
class SimWorker {
 public:
  explicit SimWorker(const SimWorkerOptions& options)
      : options_(options), slowdown_(options.slowdown), tracker_(options.model) {}

  // From the next step on.
  void SlowDown(double by) { slowdown_ = options_.slowdown * by; }

  // Whether one more request may be decoded here; counts it if so.
  bool Reserve();
  void AddPrompt(const SimPrompt& prompt) { prompts_.push_back(prompt); }
  // A reserved request's KV has arrived.
  void AddRow(const SimRow& row) { rows_.push_back(row); }
  // The request is gone, wherever it was.
  void Abort(const RequestKey& key, bool reserved);

  bool HasWork() const { return !prompts_.empty() || !rows_.empty(); }
  bool stepping() const { return stepping_; }
  // Composes a step and returns how long it takes: every row, and prompts in order as far as the
  // token budget and the rows' TPOT objectives go. REQUIRES: HasWork() and !stepping().
  double BeginStep();
  // Rows whose first step has begun since the last call.
  std::vector<RequestKey> TakeJoined() { return std::exchange(joined_, {}); }
  SimStep EndStep();

  router::WorkerReport Report() const;
  // As if one more row of `context` tokens were in the batch now.
  double StepMsWithOneMore(int32_t context) const;
  int32_t rows() const { return static_cast<int32_t>(rows_.size()); }
  const SimWorkerOptions& options() const { return options_; }

 private:
  int32_t RoomFor(const StepShape& shape, const SimPrompt& prompt, double limit_ms) const;

  const SimWorkerOptions options_;
  double slowdown_;
  uint64_t steps_ = 0;
  StepModelTracker tracker_;
  std::deque<SimPrompt> prompts_;
  std::vector<SimRow> rows_;
  int32_t reserved_ = 0;  // requests that are or will be rows
  bool stepping_ = false;
  std::vector<std::pair<RequestKey, int32_t>> chunks_;  // of this step: tokens of each prompt
  size_t rows_in_step_ = 0;                             // the first ones
  std::vector<RequestKey> joined_;
};

}  // namespace baton::sim
