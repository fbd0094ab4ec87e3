#include "engine/kv/free_runs.h"

#include <algorithm>
#include <iterator>

#include "common/check.h"

namespace baton {

FreeRuns::FreeRuns(int32_t num_blocks) : size_(num_blocks) {
  BATON_CHECK(num_blocks >= 0) << num_blocks;
  if (num_blocks > 0) Insert({0, num_blocks});
}

void FreeRuns::Take(int32_t count, int32_t preferred, std::vector<int32_t>* taken) {
  BATON_CHECK(count <= size_) << "asked for " << count << " of " << size_ << " free blocks";
  if (const auto wished = by_start_.find(preferred); wished != by_start_.end() && count > 0) {
    const int32_t from_wished = std::min(count, wished->second);
    TakeFront(*wished, from_wished, taken);
    count -= from_wished;
  }
  while (count > 0) {
    auto best = by_length_.lower_bound({count, 0});
    if (best == by_length_.end()) best = std::prev(by_length_.end());
    const Run run{best->second, best->first};
    const int32_t from_run = std::min(count, run.second);
    TakeFront(run, from_run, taken);
    count -= from_run;
  }
}

void FreeRuns::Put(int32_t block) {
  Run merged{block, 1};
  const auto next = by_start_.lower_bound(block);
  BATON_CHECK(next == by_start_.end() || next->first != block) << "block " << block << " is free";
  const bool joins_next = next != by_start_.end() && next->first == block + 1;
  const Run next_run = joins_next ? Run{*next} : Run{};
  if (next != by_start_.begin()) {
    const Run previous = *std::prev(next);
    BATON_CHECK(previous.first + previous.second <= block) << "block " << block << " is free";
    if (previous.first + previous.second == block) {
      merged = {previous.first, previous.second + 1};
      Erase(previous);
    }
  }
  if (joins_next) {
    merged.second += next_run.second;
    Erase(next_run);
  }
  Insert(merged);
  ++size_;
}

bool FreeRuns::Contains(int32_t block) const {
  const auto after = by_start_.upper_bound(block);
  if (after == by_start_.begin()) return false;
  const auto run = std::prev(after);
  return block < run->first + run->second;
}

void FreeRuns::CheckInvariants() const {
  int32_t total = 0;
  int32_t previous_end = -1;
  for (const auto& [start, length] : by_start_) {
    BATON_CHECK(start > previous_end) << "run at " << start << " touches the one before";
    BATON_CHECK(by_length_.contains({length, start})) << "run at " << start << " has no length";
    previous_end = start + length;
    total += length;
  }
  BATON_CHECK(by_length_.size() == by_start_.size()) << by_length_.size();
  BATON_CHECK(total == size_) << total << " blocks in runs, size " << size_;
}

void FreeRuns::Insert(Run run) {
  by_start_.emplace(run.first, run.second);
  by_length_.emplace(run.second, run.first);
}

void FreeRuns::Erase(Run run) {
  by_start_.erase(run.first);
  by_length_.erase({run.second, run.first});
}

void FreeRuns::TakeFront(Run run, int32_t count, std::vector<int32_t>* taken) {
  Erase(run);
  if (count < run.second) Insert({run.first + count, run.second - count});
  for (int32_t i = 0; i < count; ++i) taken->push_back(run.first + i);
  size_ -= count;
}

}  // namespace baton
