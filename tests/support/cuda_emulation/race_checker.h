// Finds races of a kernel's threads, whatever order the emulation runs them in: two of them touch a
// byte of shared or device memory, one writes, and nothing orders the two.
//
// What orders them: a barrier of the block, __syncwarp of lanes that both are in, and the border of
// two launches, of one stream or not; where they overlap it is WaitForPreviousGrid, and what a
// thread does before that is unordered with all launches since the last that did not. Blocks of a
// launch are not ordered. Shuffles, votes, ldmatrix and mma order no memory, as the CUDA C++
// Programming Guide says of them. Atomic operations do not race with one another, and order
// nothing; nor does __threadfence.
//
// A copy that does not wait holds its target from its start until the wait of the thread that
// started it, which is when that thread has written it. ldmatrix reads for the lanes that get the
// numbers, wgmma for the first thread of each warp from the product's start until its wait.
//
// A write to a variable of the executable that is no __shared__ one is refused, too: g++ 12 puts
// __shared__ variables of templates elsewhere, where nobody looks at them.
//
// Accesses come from code that is compiled with -fsanitize=thread, whose calls tsan_calls.cc
// answers, and from the emulation. Not seen: memory of the host, memory that other processes share,
// and what library functions do, such as memcpy. A race ends the process.
//
// Not thread-safe.
#pragma once

#include <array>
#include <bitset>
#include <cstdint>
#include <memory>
#include <span>
#include <string>
#include <vector>

#include "tests/support/cuda_emulation/device_memory.h"
#include "tests/support/cuda_emulation/observer.h"
#include "tests/support/cuda_emulation/race_clock.h"

namespace baton::cuda_emulation {

class RaceChecker final : public Observer {
 public:
  RaceChecker();

  void LaunchStarts(bool overlaps) override;
  void WaitsForPreviousGrid(int thread) override { waited_.set(static_cast<size_t>(thread)); }
  void BlockStarts() override {
    clock_.StartBlock();
    waited_.reset();
  }
  void ThreadRuns(int thread) override { running_ = thread; }
  void BlockMeets() override { clock_.MeetAll(); }
  void WarpMeets(int first_thread, uint32_t lanes) override {
    clock_.MeetLanes(first_thread, lanes);
  }
  void Reads(const Access& access) override { Record(access, Kind::kRead); }
  void CopyStarts(const Access& target) override { Record(target, Kind::kCopyStart); }
  void CopyArrives(const Access& target) override { Record(target, Kind::kCopyArrival); }
  void AtomicStarts(const Access& access) override;
  void AtomicEnds() override { in_atomic_ = false; }

  // Of the thread that runs, if one does: a plain access.
  void Touches(const void* address, size_t bytes, bool writes, const void* code) {
    if (running_ < 0 || in_atomic_) return;
    if (!IsLookedAt(static_cast<const std::byte*>(address))) {
      if (writes) RefuseVariable(address, code);
      return;
    }
    Record({running_, address, bytes, code}, writes ? Kind::kWrite : Kind::kRead);
  }

 private:
  enum class Kind { kRead, kWrite, kAtomic, kCopyStart, kCopyArrival };

  // The last write.
  struct Write {
    RaceTime time = 0;
    int16_t thread = 0;
    bool copying = false;
    const void* code = nullptr;
  };
  // Threads of which none did it before another one, as far as barriers say.
  struct Threads {
    static constexpr int16_t kSeveralWarps = -1;
    static constexpr int16_t kSeveralBlocks = -2;
    RaceTime time = 0;  // of the last
    uint32_t lanes = 0;
    int16_t warp = 0;
    const void* code = nullptr;  // of the last
  };
  struct History {
    Write write;
    Threads readers;
    Threads atomics;
  };
  // Two bytes, the smallest number that most kernels know.
  struct Pair {
    History first;  // of both, unless the second has its own
    std::unique_ptr<History> second;
  };

  static constexpr size_t kPagePairs = 512;
  static constexpr size_t kFolderPages = 2048;
  static constexpr size_t kPageBytes = 2 * kPagePairs;
  using Page = std::array<Pair, kPagePairs>;
  using Folder = std::array<std::unique_ptr<Page>, kFolderPages>;

  // Some bytes that follow one another.
  struct Piece {
    Pair* pairs = nullptr;  // from the one with the first byte; null: nobody looks at them
    size_t bytes = 0;
    RaceTime begin = 0;  // what came before happened before everything
  };
  bool IsLookedAt(const std::byte* address) const {
    return static_cast<size_t>(address - dynamic_.data()) < dynamic_.size() ||
           static_cast<size_t>(address - device_.data()) < device_.size() ||
           static_cast<size_t>(address - variables_.data()) < variables_.size();
  }
  void RefuseVariable(const void* address, const void* code) const;
  Piece Find(const std::byte* address, size_t bytes, int thread);
  Piece FindOnDevice(size_t offset, size_t bytes, int thread);

  // One thread's access to what has one history.
  struct Step {
    Access access;
    Kind kind;
    RaceTime time;
    RaceTime begin;

    int16_t Warp() const { return static_cast<int16_t>(access.thread / kLanes); }
    uint32_t Lane() const { return 1u << access.thread % kLanes; }
    Write AsWrite() const {
      return {time, static_cast<int16_t>(access.thread), kind == Kind::kCopyStart, access.code};
    }
  };
  void Record(const Access& access, Kind kind);
  void RecordPiece(const Step& step, const Piece& piece);
  void RecordStep(const Step& step, History& history) const;
  bool IsKnown(const Step& step, const History& history) const;
  bool IsBefore(const Write& write, const Step& step) const;
  bool AreBefore(const Threads& threads, const Step& step) const;
  void Join(const Step& step, Threads& threads) const;

  struct Earlier {
    const char* deed;
    std::string who;
    const void* code;
  };
  struct Region {
    const char* name;
    size_t offset;
  };
  Region RegionOf(const void* address) const;
  std::string NameOf(RaceTime before_block) const;
  std::string NameOf(const Write& write) const;
  std::string NameOf(const Threads& threads) const;
  [[noreturn]] void Report(const Step& step, const Earlier& earlier) const;

  RaceClock clock_;
  int running_ = -1;
  bool in_atomic_ = false;
  bool overlaps_ = false;  // the launch, with those before it, in threads that have not waited
  std::bitset<RaceClock::kMaxThreads> waited_;
  // Memory that is looked at: dynamic shared memory, __shared__ variables, device memory.
  std::span<const std::byte> dynamic_;
  std::span<const std::byte> variables_;
  std::span<const std::byte> device_;
  std::vector<Pair> of_dynamic_;
  std::vector<Pair> of_variables_;
  std::vector<std::unique_ptr<Folder>> of_device_;
};

}  // namespace baton::cuda_emulation
