// Counts what the warps of a kernel ask of memory, as hardware takes it apart: global memory in
// sectors of 32 bytes, shared memory in wavefronts, one for as many lanes as do not meet in a bank
// (32 banks of 4 bytes; lanes with 8 bytes each come in halves, with 16 in quarters of a warp).
//
// Lanes ask together where they are at an instruction for the same time, which is what a warp does
// whose lanes have taken the same branches. Of copies that do not wait both sides are counted, of
// ldmatrix its rows, of wgmma nothing. No cache is looked at.
//
// Not thread-safe; one at a time, from its construction on.
#pragma once

#include <cstdint>
#include <map>
#include <tuple>
#include <unordered_set>
#include <utility>
#include <vector>

#include "tests/support/ptx/memory_spaces.h"

namespace baton::ptx {

// Of one side of one instruction.
struct Traffic {
  uint64_t requests = 0;     // by warps
  uint64_t bytes = 0;        // of all requests; those that several lanes ask for once
  uint64_t units = 0;        // sectors or wavefronts
  uint64_t least_units = 0;  // that as many bytes take where they lie best
};

class TrafficCounter {
 public:
  struct Site {
    const Instruction* instruction = nullptr;
    Space space = Space::kGlobal;
    bool operator<(const Site& other) const {
      return std::tie(instruction, space) < std::tie(other.instruction, other.space);
    }
  };

  TrafficCounter();
  ~TrafficCounter();
  TrafficCounter(const TrafficCounter&) = delete;
  TrafficCounter& operator=(const TrafficCounter&) = delete;

  // By the interpreter: a thread comes to an instruction, whether its guard lets it run or not, and
  // asks for bytes there.
  void Comes(const Thread& thread, const Instruction& instruction);
  void Asks(const Thread& thread, const Instruction& instruction, Space space, uint64_t address,
            size_t bytes);
  void EndBlock();

  // Of the blocks that have ended.
  const std::map<Site, Traffic>& sites() const { return sites_; }
  Traffic Sum(Space space) const;
  // Of all global memory that was asked for, each sector once.
  uint64_t DistinctSectors() const { return sectors_.size(); }

 private:
  using Lanes = std::vector<std::pair<int, uint64_t>>;  // and the address that each asks for
  struct Request {
    Site site;
    size_t bytes = 0;  // of each lane
    Lanes lanes;
  };
  void Count(const Request& request);

  std::vector<std::vector<uint32_t>> visits_;  // by thread and instruction
  std::map<std::tuple<int, const Instruction*, Space, uint32_t>, Request>
      requests_;  // by warp, visit
  std::map<Site, Traffic> sites_;
  std::unordered_set<uint64_t> sectors_;
};

inline TrafficCounter* traffic = nullptr;

}  // namespace baton::ptx
