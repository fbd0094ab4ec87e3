#include "engine/tokenizer/rank_queue.h"

#include <gtest/gtest.h>

#include <random>
#include <set>
#include <string>
#include <utility>

namespace baton {
namespace {

TEST(RankQueueTest, PopsWhatASortedSetPops) {
  for (unsigned seed = 1; seed <= 50; ++seed) {
    SCOPED_TRACE("seed " + std::to_string(seed));
    std::mt19937 random(seed);
    RankQueue queue;
    std::multiset<std::pair<int32_t, int32_t>> reference;
    for (int i = 0; i < 2000; ++i) {
      if (random() % 5 < 3) {
        const auto rank = static_cast<int32_t>(random() % 7);
        // Mostly rising positions, some out of order, some twice.
        const auto position = static_cast<int32_t>(random() % 4 == 0 ? random() % 2000 : i);
        queue.Push({rank, position});
        reference.emplace(rank, position);
      } else if (!reference.empty()) {
        const RankQueue::Entry entry = queue.Pop();
        ASSERT_EQ(std::make_pair(entry.rank, entry.position), *reference.begin());
        reference.erase(reference.begin());
      }
      ASSERT_EQ(queue.empty(), reference.empty());
    }
  }
}

}  // namespace
}  // namespace baton
