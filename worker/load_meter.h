// How far the loading of a model is, and how fast it goes.
#pragma once

#include <cstdint>
#include <string>

#include "absl/time/time.h"

namespace baton {

struct LoadPoint {
  int64_t done_bytes = 0;   // in memory
  int64_t total_bytes = 0;  // 0: not known
  absl::Duration elapsed;

  double gb_per_s() const;      // of all so far; 0 when nothing has passed
  absl::Duration left() const;  // at that rate; infinite when it cannot be told
  std::string Numbers() const;  // "6.2 of 15 GiB, 1.31 GB/s, 7s left"
  std::string Bar() const;      // "[#####...............]  26 %  ", then the numbers
  std::string InTotal() const;  // "15 GiB in 12.1s (1.33 GB/s)"
};

// Pure: points come with their time.
class LoadMeter {
 public:
  explicit LoadMeter(absl::Time begin) : begin_(begin), next_line_(begin + kLineEvery) {}

  // True when a line of a log is due.
  bool Update(int64_t done_bytes, int64_t total_bytes, absl::Time now);
  const LoadPoint& point() const { return point_; }

 private:
  static constexpr absl::Duration kLineEvery = absl::Seconds(5);
  const absl::Time begin_;
  absl::Time next_line_;
  LoadPoint point_;
};

}  // namespace baton
