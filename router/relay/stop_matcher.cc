#include "router/relay/stop_matcher.h"

#include <algorithm>
#include <utility>

namespace baton::router {
namespace {

std::vector<int32_t> Borders(std::string_view stop) {
  std::vector<int32_t> border(stop.size() + 1, 0);
  int32_t length = 0;
  for (size_t i = 1; i < stop.size(); ++i) {
    while (length > 0 && stop[i] != stop[static_cast<size_t>(length)]) {
      length = border[static_cast<size_t>(length)];
    }
    if (stop[i] == stop[static_cast<size_t>(length)]) ++length;
    border[i + 1] = length;
  }
  return border;
}

}  // namespace

StopMatcher::StopMatcher(const std::vector<std::string>& stops) {
  for (const std::string& stop : stops) {
    if (!stop.empty()) automata_.push_back({stop, Borders(stop), 0});
  }
}

StopMatcher::Result StopMatcher::Push(std::string_view piece) {
  Result result;
  if (automata_.empty()) {
    result.text = piece;
    return result;
  }
  held_.append(piece);
  for (size_t i = 0; i < piece.size(); ++i) {
    const Automaton* longest = nullptr;
    for (Automaton& automaton : automata_) {
      int32_t& matched = automaton.matched;
      while (matched > 0 && automaton.stop[static_cast<size_t>(matched)] != piece[i]) {
        matched = automaton.fallback[static_cast<size_t>(matched)];
      }
      if (automaton.stop[static_cast<size_t>(matched)] == piece[i]) ++matched;
      const bool complete = matched == static_cast<int32_t>(automaton.stop.size());
      if (complete && (longest == nullptr || automaton.stop.size() > longest->stop.size())) {
        longest = &automaton;
      }
    }
    if (longest != nullptr) {
      const size_t end = held_.size() - (piece.size() - i - 1);
      result.text = held_.substr(0, end - longest->stop.size());
      result.match = Match{longest->stop};
      held_.clear();
      return result;
    }
  }
  int32_t keep = 0;
  for (const Automaton& automaton : automata_) keep = std::max(keep, automaton.matched);
  const size_t certain = held_.size() - static_cast<size_t>(keep);
  result.text = held_.substr(0, certain);
  held_.erase(0, certain);
  return result;
}

std::string StopMatcher::Pass(std::string_view piece) {
  std::string text = Flush();
  text.append(piece);
  return text;
}

std::string StopMatcher::Flush() {
  for (Automaton& automaton : automata_) automaton.matched = 0;
  return std::exchange(held_, {});
}

}  // namespace baton::router
