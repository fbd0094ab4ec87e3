// Products of warpgroups that a thread has under way: see warpgroup.h, which computes them. Until a
// wait brings them, the registers of their sums are NaN, which must not be changed.
#pragma once

#include <array>
#include <cstdint>
#include <deque>
#include <memory>
#include <vector>

namespace baton::ptx {

struct Instruction;

struct Products {
  // Where the emulation sees the sums; they stand for registers.
  struct Sums {
    std::vector<float> values;
    int under_way = 0;  // products
  };
  struct Started {
    const Instruction* instruction = nullptr;
    std::array<uint32_t, 4> a{};
    std::shared_ptr<Sums> sums;  // with other products that add to them
  };
  // Heap objects: the emulation keeps the addresses of a.
  std::vector<std::unique_ptr<Started>> uncommitted;
  std::deque<std::vector<std::unique_ptr<Started>>> groups;
  // As the last fence found all registers; empty where none came since the last wait.
  std::vector<uint64_t> fenced;

  void Clear() {
    uncommitted.clear();
    groups.clear();
    fenced.clear();
  }
};

}  // namespace baton::ptx
