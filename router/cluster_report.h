// What `GET /cluster` shows: the router's present state and its counts since it started. The live
// page and `baton top` take rates from the differences of two reports.
#pragma once

#include <cstdint>
#include <string>
#include <utility>
#include <vector>

#include "router/completion_service.h"

namespace baton {

struct ClusterReport {
  // Counts by name, in the order in which they are shown.
  using Counts = std::vector<std::pair<std::string, int64_t>>;

  struct SloClass {
    std::string name;
    double ttft_ms = 0;
    double tpot_ms = 0;
    Counts results;  // every SloResult: "good", "ttft_miss", …; ended requests since the start
  };
  struct Worker {
    std::string id, role;
    bool alive = false;
    bool draining = false;
    std::string standing;  // "in"; "ejected", "probing": too slow
    int32_t running = 0;
    int32_t waiting = 0;
    int32_t free_blocks = 0;
    int32_t cached_blocks = 0;
    int32_t busy_blocks = 0;
    int32_t total_blocks = 0;
    double step_ms = 0;  // moving average
  };
  // Handoffs that were sealed, by who sent, who received and over what.
  struct Pair {
    std::string prefill, decode, transport;
    int64_t handoffs = 0;
    int64_t bytes = 0;
    double transfer_ms = 0;  // summed
  };

  // Kept apart, since their handoffs failed.
  struct EjectedPair {
    std::string prefill, decode;
    std::string standing;  // "ejected", "probing"
  };

  double time_s = 0;  // since the router started
  Counts stages;      // requests in each stage now: "queued", "reserving", …
  Counts missed;      // misses since the start, by the stage that spent the budget
  int64_t prompt_tokens = 0;
  int64_t generation_tokens = 0;
  int64_t rejected = 0;
  std::vector<SloClass> classes;
  std::vector<Worker> workers;
  std::vector<Pair> pairs;
  std::vector<EjectedPair> ejected_pairs;
};

}  // namespace baton
