// Which tokens of which sequences run in the next step, and who holds which KV block: a pure state
// machine. No thread, clock or model: the step loop plans, executes and commits; the simulator
// drives the same class with a latency model.
//
// One step is a transaction: Plan reserves, the caller executes, Commit applies the sampled tokens.
// Between Plan and Commit only Abort, Reserve and the handoff events may be called; they take
// effect at Commit where they touch a planned sequence. A step that decodes may be followed by one
// that is planned before its tokens are known (PlanAhead): then that one is open after Commit.
//
// A *sequence* here is one prompt with its samples (branches): they share the prompt's blocks and
// fork, copy on write, when the first tokens are known.
#pragma once

#include <cstdint>
#include <memory>
#include <span>
#include <string>
#include <utility>
#include <variant>
#include <vector>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "absl/time/time.h"
#include "common/ids.h"
#include "common/kv_layout.h"
#include "common/request.h"
#include "common/step_model.h"
#include "engine/kv/prefix_cache.h"
#include "engine/scheduler/mutations.h"

namespace baton {

// How prompts share a step with decode rows. In every mode the whole step is theirs where nothing
// decodes.
enum class Chunking {
  kAuto,   // as many tokens as the predicted step has room for under the rows' TPOT objectives
  kFixed,  // prefill_chunk_tokens of all prompts together
  kOff,    // whole prompts, and no decode rows beside them: prefill first
};

struct SchedulerOptions {
  int32_t block_size = 16;
  int32_t num_blocks = 0;
  int32_t max_model_len = 0;
  int32_t vocab_size = 0;            // token ids outside it are refused; 0: not checked
  int32_t max_batch_sequences = 64;  // branches decoding in one step
  int32_t max_batch_tokens = 512;    // of one step, decode rows first, the rest for prefill chunks
  int32_t prefill_chunk_tokens = 512;  // of one sequence in one step
  int32_t max_waiting = 256;           // sequences not yet started
  bool prefix_caching = true;
  Chunking chunking = Chunking::kAuto;
  // The part of a TPOT objective that a predicted step may take: the rest is for what the model
  // does not know.
  double tpot_margin = 0.95;
  // A prompt without an objective, or one that can no longer be met, is due after this time.
  absl::Duration patience = absl::Seconds(5);
  // A branch waits for room under the TPOT objectives of others for at most this many of its own
  // TPOTs, before it joins all the same.
  double join_patience_tokens = 16;
  std::vector<TokenId> eos_tokens;
  SchedulerMutations mutations = {};
};

// How many blocks are in each state of H1; the sum is always num_blocks.
struct BlockCensus {
  int32_t free = 0;
  int32_t reserved = 0;
  int32_t landing = 0;
  int32_t sealed = 0;
  int32_t in_use = 0;
  int32_t cached = 0;
  int32_t quarantined = 0;
  friend bool operator==(const BlockCensus&, const BlockCensus&) = default;
};

// Plain data: what to execute in one step.
struct StepPlan {
  // One row group of the forward pass. Views are valid until Commit.
  struct Row {
    SequenceId sequence;
    int32_t branch = 0;
    std::span<const TokenId> tokens;
    int32_t start_position = 0;
    std::span<const BlockId> block_table;
    int32_t first_logit_token = 0;  // == tokens.size(): no logits
    // Tokens to draw from the last row's logits: 0 for an unfinished chunk, 1 when decoding,
    // num_samples when this chunk ends the prompt.
    int32_t num_samples = 0;
    bool is_prefill = false;
    bool ends_prompt = false;  // prefill only: the last chunk
    // Of PlanAhead: `tokens` is only a place for the token that this row of the step before draws,
    // and `block_table` becomes empty if that one ends the branch. -1: the tokens are known.
    int32_t drawn_row = -1;
  };
  std::vector<KvBlockCopy> copies;  // before the forward pass
  std::vector<Row> rows;
  int32_t num_tokens = 0;
  bool empty() const { return rows.empty(); }
  StepShape Shape() const;
  void Clear();
};

// One drawn token of one planned row.
struct SampledToken {
  TokenId token = 0;
  float logprob = 0.0f;
  std::vector<TokenLogprob> top_logprobs;
};

// What a step did to a sequence, in order.
struct SequenceEvent {
  SequenceId sequence;
  struct Token {
    TokenOutput output;
  };
  struct PromptDone {  // kPrefillOnly: every block is final; held until Release
    int32_t cached_tokens = 0;
  };
  struct BranchFinished {
    SampleFinish finish;
  };
  struct Done {  // the last branch has finished; the id is forgotten
    int32_t cached_tokens = 0;
  };
  struct Failed {  // kv_exhausted: it can never fit. The id is forgotten.
    absl::Status status;
  };
  std::variant<Token, PromptDone, BranchFinished, Done, Failed> what;
};

enum class SequenceMode {
  kGenerate,     // prefill here and decode here
  kPrefillOnly,  // compute the prompt, draw the first tokens, hold the blocks until Release
};

// What a sequence is scheduled for; times are the caller's clock. The default: none.
struct SequenceObjective {
  absl::Time arrived = absl::UnixEpoch();
  absl::Time first_token_due = absl::InfiniteFuture();
  double tpot_ms = 0;  // 0: none
};

// The landing place of a handoff.
struct Reservation {
  SequenceId sequence;
  int32_t first_missing_token = 0;  // a multiple of block_size: what the prefix cache already has
  // Blocks of tokens [first_missing_token, prompt): logical order, state LANDING.
  std::vector<BlockId> landing_blocks;
};

class Scheduler {
 public:
  static std::unique_ptr<Scheduler> Create(const SchedulerOptions& options);
  virtual ~Scheduler() = default;

  // Steps are bounded by objectives only where they can be predicted. `model` is borrowed, may be
  // corrected between calls, and null takes it away.
  virtual void SetStepModel(const StepModelTracker* model) = 0;

  // Queues a sequence. RESOURCE_EXHAUSTED: the waiting list is full. INVALID_ARGUMENT: it can never
  // fit the pool or the context.
  virtual absl::StatusOr<SequenceId> Add(GenerationSpec spec, SequenceMode mode,
                                         const SequenceObjective& objective) = 0;
  absl::StatusOr<SequenceId> Add(GenerationSpec spec, SequenceMode mode) {
    return Add(std::move(spec), mode, {});
  }

  // ---- decode side of a handoff
  // Allocates at once or refuses: RESOURCE_EXHAUSTED (no room now), INVALID_ARGUMENT (never).
  virtual absl::StatusOr<Reservation> Reserve(GenerationSpec spec,
                                              const SequenceObjective& objective) = 0;
  absl::StatusOr<Reservation> Reserve(GenerationSpec spec) { return Reserve(std::move(spec), {}); }
  // Every byte has landed and is verified: LANDING → SEALED; it decodes from the next step on.
  // `first_tokens`: [num_samples], already shown to the client by prefill: no Token events for
  // them. A first token that ends its branch (EOS, max_tokens 1) gives BranchFinished at the next
  // Commit or from TakeEvents.
  virtual absl::Status Seal(SequenceId sequence, std::span<const TokenId> first_tokens) = 0;
  // The transport can no longer write to the landing blocks of an aborted reservation:
  // QUARANTINE → FREE. Idempotent; a no-op for a sealed sequence.
  virtual void LandingReleased(SequenceId sequence) = 0;

  // ---- prefill side of a handoff
  // The blocks of a kPrefillOnly sequence are no longer read by anyone: pinned until now.
  virtual void Release(SequenceId sequence) = 0;

  // Ends a sequence in any state; idempotent. Its landing blocks go to QUARANTINE until
  // LandingReleased; a kPrefillOnly sequence that `keep_pinned` says is still being sent keeps its
  // blocks IN_USE until Release. No events follow for it.
  virtual void Abort(SequenceId sequence, bool keep_pinned) = 0;
  // Ends one branch (its stop string was seen); the others go on. BranchFinished is not repeated.
  virtual void AbortBranch(SequenceId sequence, int32_t sample) = 0;

  // ---- one step
  // An empty plan: nothing can run now. REQUIRES: no step is open, or only one that PlanAhead gave
  // before the last Commit; this is that one then.
  virtual const StepPlan& Plan() = 0;
  // The step behind the open one, as Plan would give it after Commit if no token that is drawn now
  // ended its row; until it is committed itself. Cached blocks may give way for it. Empty where
  // more would come into question than the same rows (prompts, what has been sealed, room for a
  // block that is not there), and where a draw depends on tokens before it. Its sequences may end
  // before it does: then its tokens for them are dropped, and their blocks stay taken until it is
  // committed. REQUIRES: one step is open.
  virtual const StepPlan& PlanAhead() = 0;
  // Ends the older of the open steps. `sampled[i]`: [plan.rows[i].num_samples]. Also registers full
  // blocks in the prefix index.
  virtual std::vector<SequenceEvent> Commit(std::span<const std::vector<SampledToken>> sampled) = 0;
  // Events that no step produced (a sealed sequence that was finished by its first token).
  virtual std::vector<SequenceEvent> TakeEvents() = 0;

  // ---- the prefix cache, as others may know it (the contract is PrefixCache::TakeChanges')
  virtual PrefixChanges TakePrefixChanges() = 0;
  virtual std::vector<uint64_t> PrefixHashes() const = 0;  // of every block in it

  // ---- views
  // Something is running, could start, or has events to take. While all blocks are pinned elsewhere
  // a plan may still come out empty.
  virtual bool HasWork() const = 0;
  virtual bool InStep() const = 0;  // between Plan or PlanAhead and Commit
  virtual BlockCensus Census() const = 0;
  virtual int32_t num_running() const = 0;  // branches in PREFILL or DECODE
  virtual int32_t num_waiting() const = 0;  // not started, or preempted
  // What is left to compute: one row for each branch that decodes, with its context, and the
  // prompts that are not done, less what the prefix cache had of them when they came.
  virtual StepShape WorkAtHand() const = 0;
  virtual uint64_t preemptions_total() const = 0;
  virtual uint64_t prefix_query_tokens_total() const = 0;
  virtual uint64_t prefix_hit_tokens_total() const = 0;
  // What the sampler needs of a branch: all its tokens so far, prompt included.
  virtual std::span<const TokenId> Tokens(SequenceId sequence, int32_t branch) const = 0;
  virtual const GenerationSpec& Spec(SequenceId sequence) const = 0;
  // Physical blocks of a branch in logical order (the prefill sender reads them).
  virtual std::span<const BlockId> BlockTable(SequenceId sequence, int32_t branch) const = 0;
  // Aborts the process naming the invariant (H1, H2, H7, reference counts) that does not hold.
  virtual void CheckInvariants() const = 0;
};

}  // namespace baton
