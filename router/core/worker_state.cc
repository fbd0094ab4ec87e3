#include "router/core/worker_state.h"

namespace baton::router {

void PrefillBacklog::Add(absl::Time now, double ms) {
  if (prompts_++ == 0) {
    since_ = now;
    ms_ = 0;
  }
  ms_ += ms;
}

// The others start over from here: what is left of them is known now.
void PrefillBacklog::Remove(absl::Time now, double ms) {
  ms_ = --prompts_ == 0 ? 0 : std::max(0.0, ms_ - ms);
  since_ = now;
}

void PrefillBacklog::OnReport(absl::Time now, double left_ms) {
  const absl::Time says = now + absl::Milliseconds(left_ms);
  // A little more than ours is our own error, not somebody else's prompt.
  const absl::Time ours = std::max(own_free_at(), now);
  const absl::Duration tolerance = absl::Milliseconds(5 + 0.25 * ms_);
  others_until_ = says > ours + tolerance ? says : absl::InfinitePast();
}

double WorkerState::decode_load() const {
  const double total_blocks = std::max(1, info.total_blocks);
  const double batch = std::max(1, info.max_batch_sequences);
  const int32_t sequences =
      std::max({placed_rows, placed_decodes, report.running + report.waiting});
  return 1.0 - report.available_blocks() / total_blocks + sequences / batch;
}

}  // namespace baton::router
