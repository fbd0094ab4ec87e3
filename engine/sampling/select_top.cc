#include "engine/sampling/select_top.h"

#include <algorithm>

namespace baton {

namespace {

bool Better(const Candidate& a, const Candidate& b) {
  return a.value != b.value ? a.value > b.value : a.token < b.token;
}

// Above this share of the row a heap is slower than a partition.
constexpr size_t kHeapShare = 32;

}  // namespace

void SelectTop(std::span<const float> row, int32_t count, std::vector<Candidate>* top) {
  const size_t wanted = std::min(static_cast<size_t>(std::max(count, 0)), row.size());
  const bool partition = wanted * kHeapShare > row.size();
  top->clear();
  const size_t first = partition ? row.size() : wanted;
  for (size_t i = 0; i < first; ++i) top->push_back({row[i], static_cast<TokenId>(i)});
  if (wanted == 0) {
    top->clear();
    return;
  }
  if (partition) {
    std::nth_element(top->begin(), top->begin() + static_cast<ptrdiff_t>(wanted) - 1, top->end(),
                     Better);
    top->resize(wanted);
  } else {
    std::make_heap(top->begin(), top->end(), Better);  // the worst of the best in front
    for (size_t i = first; i < row.size(); ++i) {
      if (row[i] <= top->front().value) continue;  // an equal one has a lower token
      std::pop_heap(top->begin(), top->end(), Better);
      top->back() = {row[i], static_cast<TokenId>(i)};
      std::push_heap(top->begin(), top->end(), Better);
    }
  }
  std::sort(top->begin(), top->end(), Better);
}

}  // namespace baton
