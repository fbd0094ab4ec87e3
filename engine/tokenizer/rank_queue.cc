#include "engine/tokenizer/rank_queue.h"

#include <algorithm>

namespace baton {

void RankQueue::Bucket::Push(int32_t position) {
  if (taken > 0) {
    late.push(position);
    return;
  }
  in_order = in_order && (positions.empty() || positions.back() < position);
  positions.push_back(position);
}

int32_t RankQueue::Bucket::Pop() {
  if (!in_order) {
    std::sort(positions.begin(), positions.end());
    in_order = true;
  }
  int32_t position = 0;
  const bool from_late =
      !late.empty() && (taken == positions.size() || late.top() < positions[taken]);
  if (from_late) {
    position = late.top();
    late.pop();
  } else {
    position = positions[taken++];
  }
  if (empty()) {  // the next positions start over, in order again
    positions.clear();
    taken = 0;
  }
  return position;
}

void RankQueue::Push(Entry entry) {
  const auto [at, is_new] = bucket_of_rank_.try_emplace(entry.rank, buckets_.size());
  if (is_new) buckets_.emplace_back();
  Bucket& bucket = buckets_[at->second];
  if (bucket.empty()) ranks_.push(entry.rank);
  bucket.Push(entry.position);
}

RankQueue::Entry RankQueue::Pop() {
  const int32_t rank = ranks_.top();
  Bucket& bucket = buckets_[bucket_of_rank_.find(rank)->second];
  const Entry entry{rank, bucket.Pop()};
  if (bucket.empty()) ranks_.pop();
  return entry;
}

}  // namespace baton
