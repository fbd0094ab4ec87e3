// How a step's attention is cut into units of work.
#include <algorithm>

#include "engine/kernels/paged_attention.h"

namespace baton {
namespace {

class Planner {
 public:
  Planner(std::span<const AttentionSequence> sequences, const AttentionShape& shape,
          AttentionPlan* plan)
      : sequences_(sequences),
        shape_(shape),
        group_(shape.num_heads / shape.num_kv_heads),
        heads_per_task_(std::min(group_, kAttentionRows)),
        most_sequences_(MostSequences()),
        plan_(*plan) {}

  void Plan() {
    for (size_t s = 0; s < sequences_.size();) {
      int32_t shared = 0;
      const size_t end = EndOfNeighbours(s, &shared);
      if (end - s > 1) {
        AddHeads({.sequence = static_cast<int32_t>(s),
                  .num_sequences = static_cast<int32_t>(end - s),
                  .shared_positions = shared,
                  .token_end = 1});
      } else {
        AddSequence(s);
      }
      s = end;
    }
    ShareOutLongRows();
  }

 private:
  int32_t TokensPerTask() const { return kAttentionRows / heads_per_task_; }
  int32_t TasksPerToken() const {
    return shape_.num_kv_heads * ((group_ + heads_per_task_ - 1) / heads_per_task_);
  }

  // Of one task, so that the decode rows make two tasks for each thread.
  size_t MostSequences() const {
    const auto decoding = std::count_if(sequences_.begin(), sequences_.end(),
                                        [](const auto& s) { return s.num_rows == 1; });
    const int32_t most =
        static_cast<int32_t>(decoding) * TasksPerToken() / (2 * shape_.num_threads);
    return static_cast<size_t>(std::clamp(most, 1, TokensPerTask()));
  }

  // Positions of whole tiles whose blocks are the same in both, all before either's row.
  int32_t SharedPositions(const AttentionSequence& a, const AttentionSequence& b) const {
    const int32_t positions = std::min(a.start_position, b.start_position);
    const auto blocks = static_cast<size_t>(positions / shape_.block_size);
    size_t same = 0;
    while (same < blocks && a.block_table[same] == b.block_table[same]) ++same;
    return static_cast<int32_t>(same) * shape_.block_size / kAttentionTile * kAttentionTile;
  }

  // One past the last sequence that is taken together with `begin`: as long as that saves reading.
  size_t EndOfNeighbours(size_t begin, int32_t* shared) const {
    size_t end = begin + 1;
    if (sequences_[begin].num_rows != 1) return end;
    for (; end < sequences_.size() && end - begin < most_sequences_; ++end) {
      if (sequences_[end].num_rows != 1) break;
      const int32_t with = SharedPositions(sequences_[begin], sequences_[end]);
      const int32_t common = end == begin + 1 ? with : std::min(with, *shared);
      const auto taken = static_cast<int64_t>(end - begin);
      if (common * taken <= *shared * (taken - 1)) break;
      *shared = common;
    }
    return end;
  }

  void AddSequence(size_t s) {
    // Last tokens first: they have the most keys, and long work should start early.
    for (int32_t end = sequences_[s].num_rows; end > 0; end -= TokensPerTask()) {
      AddHeads({.sequence = static_cast<int32_t>(s),
                .token_begin = std::max(0, end - TokensPerTask()),
                .token_end = end});
    }
  }

  // The task for all heads, no more than heads_per_task_ in one, and of one KV head each.
  void AddHeads(AttentionTask task) {
    for (int32_t kv_head = 0; kv_head < shape_.num_kv_heads; ++kv_head) {
      const int32_t group_end = (kv_head + 1) * group_;
      for (int32_t head = kv_head * group_; head < group_end; head += heads_per_task_) {
        task.head_begin = head;
        task.head_end = std::min(head + heads_per_task_, group_end);
        plan_.tasks.push_back(task);
      }
    }
  }

  // Ranges of keys that the task's last row sees, but for a window.
  int32_t NumRanges(const AttentionTask& task) const {
    const AttentionSequence& last =
        sequences_[static_cast<size_t>(task.sequence + task.num_sequences - 1)];
    return (last.start_position + task.token_end + kKeyRange - 1) / kKeyRange;
  }
  // In ranges of a few rows, which wait for memory; many rows take about as long as this says.
  int64_t Cost(const AttentionTask& task) const {
    const int32_t rows = task.num_sequences * (task.token_end - task.token_begin) *
                         (task.head_end - task.head_begin);
    return int64_t{NumRanges(task)} * (1 + rows / 16);
  }

  // Replaces the task of a decode row by one for each range, and a merge, where it is more than
  // half of a thread's share of the step.
  void ShareOutLongRows() {
    if (shape_.num_threads == 1) return;
    int64_t cost = 0;
    for (const AttentionTask& task : plan_.tasks) cost += Cost(task);
    size_t whole = 0;
    for (const AttentionTask& task : plan_.tasks) {
      const int32_t ranges = NumRanges(task);
      const bool decodes =
          task.num_sequences == 1 && sequences_[static_cast<size_t>(task.sequence)].num_rows == 1;
      if (!decodes || ranges == 1 || Cost(task) * 2 * shape_.num_threads <= cost) {
        plan_.tasks[whole++] = task;
        continue;
      }
      plan_.merges.push_back(
          {.task = task, .first_partial = plan_.num_partials, .num_partials = ranges});
      plan_.num_partials += ranges;
    }
    plan_.tasks.resize(whole);
    for (const AttentionMerge& merge : plan_.merges) {
      for (int32_t range = 0; range < merge.num_partials; ++range) {
        plan_.tasks.push_back(merge.task);
        plan_.tasks.back().key_range = range;
        plan_.tasks.back().partial = merge.first_partial + range;
      }
    }
    plan_.rows_of_partial = heads_per_task_;
    // Long work starts first.
    std::rotate(plan_.tasks.begin(), plan_.tasks.begin() + static_cast<int64_t>(whole),
                plan_.tasks.end());
  }

  const std::span<const AttentionSequence> sequences_;
  const AttentionShape& shape_;
  const int32_t group_;  // query heads of one KV head
  const int32_t heads_per_task_;
  const size_t most_sequences_;
  AttentionPlan& plan_;
};

}  // namespace

void OrderForAttention(std::span<AttentionSequence> sequences) {
  std::sort(sequences.begin(), sequences.end(),
            [](const AttentionSequence& a, const AttentionSequence& b) {
              return std::lexicographical_compare(a.block_table.begin(), a.block_table.end(),
                                                  b.block_table.begin(), b.block_table.end());
            });
}

void PlanAttention(std::span<const AttentionSequence> sequences, const AttentionShape& shape,
                   AttentionPlan* plan) {
  plan->tasks.clear();
  plan->merges.clear();
  plan->num_partials = 0;
  Planner(sequences, shape, plan).Plan();
}

}  // namespace baton
