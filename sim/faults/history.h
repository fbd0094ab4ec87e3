// What happened in a simulated run, as lines that a person reads, and the end of a run that broke
// an invariant.
#pragma once

#include <stdexcept>
#include <string>
#include <utility>
#include <vector>

#include "absl/time/time.h"

namespace baton::sim {

// Thrown out of a run: the invariant and what broke it.
class Violation : public std::runtime_error {
 public:
  using std::runtime_error::runtime_error;
};

class History {
 public:
  struct Line {
    absl::Duration at;
    std::string who;
    std::string what;
  };

  explicit History(bool recording) : recording_(recording) {}

  bool recording() const { return recording_; }
  void Add(absl::Time at, std::string who, std::string what) {
    if (recording_) lines_.push_back({at - absl::UnixEpoch(), std::move(who), std::move(what)});
  }
  const std::vector<Line>& lines() const { return lines_; }

 private:
  const bool recording_;
  std::vector<Line> lines_;
};

}  // namespace baton::sim
