// Finds stop strings in text that arrives in pieces.
//
// The match that ends first wins; of those that end at the same byte, the longest. So the result
// depends on the text alone, not on where tokens divide it. Text that could still become part of a
// stop string is held back. One Knuth-Morris-Pratt automaton for each stop string: linear time.
#pragma once

#include <cstdint>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

namespace baton::router {

// Not thread-safe. Pure.
class StopMatcher {
 public:
  // Empty strings match nothing.
  explicit StopMatcher(const std::vector<std::string>& stops);

  struct Match {
    std::string stop;
  };
  struct Result {
    std::string text;            // certain now; ends before the stop string when one matched
    std::optional<Match> match;  // then nothing after it may be pushed
  };
  Result Push(std::string_view piece);
  // Passes text on that may not match (before min_tokens): no match begins or continues in it.
  std::string Pass(std::string_view piece);
  // The held text, when no more comes.
  std::string Flush();

 private:
  struct Automaton {
    std::string stop;
    std::vector<int32_t> fallback;  // [stop.size() + 1] length of the longest border
    int32_t matched = 0;            // longest prefix of `stop` that ends the text so far
  };

  std::vector<Automaton> automata_;
  std::string held_;
};

}  // namespace baton::router
