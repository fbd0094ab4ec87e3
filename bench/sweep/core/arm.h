// What is compared: ways to run the same engine on the same cores. Pure.
#pragma once

#include <cstdint>
#include <string>
#include <vector>

namespace baton::sweep {

struct WorkerPlan {
  std::string role;           // "prefill", "decode" or "both"
  std::vector<int32_t> cpus;  // one compute thread on each
};

// One way to run an arm.
struct Setup {
  std::string name;             // "1P+1D", "1x2 chunk 64"
  std::string chunked_prefill;  // of `baton worker`
  std::vector<WorkerPlan> workers;
};

// An arm is as good as the best of its setups.
struct Arm {
  std::string name;
  std::vector<Setup> setups;
};

inline constexpr char kDisaggregated[] = "disaggregated";
inline constexpr char kUnchunked[] = "unchunked";
inline constexpr char kChunked[] = "chunked";

// Every arm gets all of `cpus`, at least two. Disaggregated: every split into prefill and decode
// workers of one core each. Colocated: one worker on all cores, and one worker on each; chunked
// with each of `chunks` (values of chunked_prefill: "auto", "64").
std::vector<Arm> MakeArms(const std::vector<int32_t>& cpus, const std::vector<std::string>& chunks);

}  // namespace baton::sweep
