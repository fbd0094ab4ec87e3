#include "engine/sampling/select_top.h"

#include <algorithm>
#include <array>
#include <bit>

namespace baton {

namespace {

bool Better(const Candidate& a, const Candidate& b) {
  return a.value != b.value ? a.value > b.value : a.token < b.token;
}

// Above this share of the row a heap is slower than a partition.
constexpr size_t kHeapShare = 32;

// Weights fall into buckets by exponent and three bits of mantissa: the order of buckets is the
// order of weights.
constexpr int kBucketShift = 20;
constexpr size_t kBuckets = (std::bit_cast<uint32_t>(1.0f) >> kBucketShift) + 1;
size_t BucketOf(float weight) { return std::bit_cast<uint32_t>(weight) >> kBucketShift; }

// The lowest bucket that is needed to reach `mass` from the top.
size_t LowestBucket(std::span<const float> weights, double mass) {
  // Interleaved, so that neighbours of equal weight do not wait for one another.
  constexpr size_t kLanes = 4;
  std::array<std::array<double, kLanes>, kBuckets> sums{};
  for (size_t i = 0; i < weights.size(); ++i) {
    sums[BucketOf(weights[i])][i % kLanes] += double{weights[i]};
  }
  double reached = 0;
  size_t bucket = kBuckets;
  while (bucket > 0 && reached < mass) {
    --bucket;
    for (const double sum : sums[bucket]) reached += sum;
  }
  return bucket;
}

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

void SelectMass(std::span<const float> weights, double mass, std::vector<Candidate>* top) {
  const auto lowest =
      std::bit_cast<float>(static_cast<uint32_t>(LowestBucket(weights, mass) << kBucketShift));
  top->clear();
  for (size_t i = 0; i < weights.size(); ++i) {
    if (weights[i] < lowest || weights[i] == 0) continue;
    top->push_back({weights[i], static_cast<TokenId>(i)});
  }
  std::sort(top->begin(), top->end(), Better);
  double reached = 0;
  size_t size = 0;
  while (size < top->size() && reached < mass) reached += double{(*top)[size++].value};
  top->resize(size);
}

}  // namespace baton
