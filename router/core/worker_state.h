// What the router believes of one worker: what it said of itself, and what was placed on it since.
#pragma once

#include <algorithm>
#include <cstdint>
#include <vector>

#include "absl/time/time.h"
#include "router/core/ejection.h"
#include "router/core/types.h"

namespace baton::router {

// Times that are compared by the hundred in one decision, as plain numbers.
inline double MsOf(absl::Time time) { return absl::ToDoubleMilliseconds(time - absl::UnixEpoch()); }

// A request of ours on a worker that decodes it or will.
struct DecodeRow {
  int32_t samples = 0;   // 0: this slot is free
  int64_t context = 0;   // tokens that its samples attend to, in all and so far
  int32_t emitted = 0;   // output tokens, of all samples
  int32_t expected = 1;  // output tokens that one sample will have, by what is known
  int32_t most = 1;      // max_tokens
  double tpot_ms = 0;    // objective
  double starts_ms = 0;  // MsOf the time when decoding starts: as predicted; then as it was
  double due_ms = 0;     // MsOf the time by which the first token must be out
  bool decoding = false;

  // Steps until its last token. Never 0: what has outlived the expectation goes on a little.
  double steps_left() const {
    const double done = static_cast<double>(emitted) / std::max(1, samples);
    const double expected_left = std::max(expected - done, 0.2 * expected);
    return std::max(1.0, std::min(expected_left, most - done));
  }
};

// The prompts of ours that wait for or are in prefill on one worker, in milliseconds of its time,
// and what others have there. One prompt goes after the other; a batch of several ends at the same
// moment as the last of them would.
class PrefillBacklog {
 public:
  void Add(absl::Time now, double ms);
  void Remove(absl::Time now, double ms);
  // The worker said how much it has left; what is not ours is another router's.
  void OnReport(absl::Time now, double left_ms);

  bool busy() const { return prompts_ > 0 || others_until_ != absl::InfinitePast(); }
  // When a prompt that comes now could start; may lie in the past.
  absl::Time free_at() const { return std::max(own_free_at(), others_until_); }

 private:
  absl::Time own_free_at() const { return since_ + absl::Milliseconds(ms_); }

  int32_t prompts_ = 0;
  double ms_ = 0;                            // of prompts not done, counted from since_
  absl::Time since_ = absl::InfinitePast();  // when the front one began
  absl::Time others_until_ = absl::InfinitePast();
};

struct WorkerState {
  bool alive = false;
  SessionId session;
  absl::Time last_heard = absl::InfinitePast();
  WorkerInfo info;
  WorkerReport report;
  int32_t placed_prefills = 0;  // ours that hold one of its credits
  int32_t placed_decodes = 0;   // ours that it holds or was asked to hold blocks for
  int32_t credits = 0;          // last report, less what was placed since, plus what came back
  Standing standing = Standing::kIn;
  bool out_of_room = false;  // refused a reservation; see room_retry
  absl::Time refused_at = absl::InfinitePast();
  int32_t refused_available_blocks = 0;

  PrefillBacklog prefill;
  std::vector<DecodeRow> rows;  // with free slots
  int32_t placed_rows = 0;      // samples in `rows`
  int32_t decoding_rows = 0;    // samples of ours in its batch
  int64_t decoding_context = 0;
  int32_t others_rows = 0;  // by its last report, beyond ours
  int64_t others_context = 0;

  bool serves() const { return alive && !report.draining; }
  // In service: what capacity is counted by.
  bool accepts() const { return serves() && standing == Standing::kIn; }
  // May get a request now: those in service, and a probing one that has none.
  bool may_take() const {
    const bool idle = placed_prefills + placed_decodes == 0;
    return accepts() || (serves() && standing == Standing::kProbing && idle);
  }
  bool known() const { return info.step_model.known(); }
  int32_t free_credits() const {
    const int32_t own = info.prefill_credits - placed_prefills;
    return own < credits ? own : credits;
  }
  // 0 is idle, 2 is full of blocks and of sequences.
  double decode_load() const;
};

}  // namespace baton::router
