#include "tests/support/cuda_emulation/block.h"

#include <algorithm>
#include <cstdio>
#include <cstdlib>
#include <memory>
#include <string>
#include <vector>

#include "tests/support/cuda_emulation/code_lines.h"
#include "tests/support/cuda_emulation/fiber.h"
#include "tests/support/cuda_emulation/observer.h"
#include "tests/support/cuda_emulation/shared_memory.h"
#include "tests/support/cuda_emulation/thread_copies.h"
#include "tests/support/cuda_emulation/warpgroup.h"

namespace baton::cuda_emulation {

namespace {

enum class State { kReady, kAtBarrier, kInCollective, kInWarpgroup, kEnded };

struct Thread {
  Fiber fiber;
  State state = State::kReady;
  uint3 index{};
  Place where;             // of what it waits for
  bool predicate = false;  // at a barrier
  int barrier_count = 0;
  ThreadCopies copies;
  bool waited = false;  // for the grid before
  ProductsOfThread products;
};

// A collective that some of its lanes wait in.
struct Collective {
  Combine combine = nullptr;
  uint32_t arrived = 0;
  WarpExchange exchange;
};
struct Warp {
  uint32_t lanes = 0;  // that the block has
  uint32_t ended = 0;
  std::vector<Collective> collectives;
};

struct Warpgroup {
  CombineWarpgroup combine = nullptr;
  Place where;
  int arrived = 0;
  WarpgroupExchange exchange;
};

// The block that runs. Its threads' stacks are kept for the next one.
struct Block {
  std::vector<std::unique_ptr<Thread>> threads;
  std::vector<Warp> warps;
  std::vector<Warpgroup> warpgroups;
  int size = 0;
  int at_barrier = 0;
  int ended = 0;
  int current = 0;
  bool backwards = false;
  const KernelLaunch* launch = nullptr;
};
Block block;

Thread& Current() { return *block.threads[static_cast<size_t>(block.current)]; }
Warp& CurrentWarp() { return block.warps[static_cast<size_t>(block.current / kLanes)]; }
void SetReady(int thread) { block.threads[static_cast<size_t>(thread)]->state = State::kReady; }

std::string ThreadName(const Thread& thread) {
  char name[64];
  std::snprintf(name, sizeof(name), "thread (%u, %u, %u)", thread.index.x, thread.index.y,
                thread.index.z);
  return name;
}

std::string BlockName() {
  char name[128];
  std::snprintf(name, sizeof(name), "block (%u, %u, %u) of %d threads", blockIdx.x, blockIdx.y,
                blockIdx.z, block.size);
  return name;
}

[[noreturn]] void Die(const std::string& what, const Place& where) {
  std::fprintf(stderr, "CUDA emulation: %s; %s:%u in %s, %s\n", what.c_str(), where.file,
               where.line, where.function, BlockName().c_str());
  std::abort();
}

std::string Waiting(const Thread& thread) {
  switch (thread.state) {
    case State::kReady:
      return ThreadName(thread) + " is ready";
    case State::kEnded:
      return ThreadName(thread) + " has ended";
    case State::kAtBarrier:
      return ThreadName(thread) + " waits at the barrier of line " +
             std::to_string(thread.where.line);
    case State::kInWarpgroup:
      return ThreadName(thread) + " waits for its warpgroup in line " +
             std::to_string(thread.where.line);
    case State::kInCollective:
      break;
  }
  return ThreadName(thread) + " waits in the collective of line " +
         std::to_string(thread.where.line);
}

// No thread can go on.
[[noreturn]] void DieOfDeadlock() {
  const Thread* waits = nullptr;
  for (int i = 0; i < block.size; ++i) {
    const Thread& thread = *block.threads[static_cast<size_t>(i)];
    if (thread.state != State::kEnded) waits = &thread;
  }
  std::string others;
  for (int i = 0; i < block.size; ++i) {
    const Thread& thread = *block.threads[static_cast<size_t>(i)];
    if (thread.state != waits->state || thread.where.line != waits->where.line) {
      others = Waiting(thread);
      break;
    }
  }
  const char* kind = waits->state == State::kAtBarrier
                         ? "a barrier that not all threads of the block reach: "
                     : waits->state == State::kInWarpgroup
                         ? "a product that not all threads of the warpgroup join: "
                         : "a collective that not all named lanes join: ";
  Die(kind + Waiting(*waits) + (others.empty() ? "" : ", " + others), waits->where);
}

[[noreturn]] void DieWithoutWait(const Thread& thread) {
  std::fprintf(stderr, "CUDA emulation: %s of %s has not waited for the grid before its own\n%s",
               ThreadName(thread).c_str(), BlockName().c_str(),
               LinesOf(static_cast<const std::byte*>(block.launch->kernel) + 1).c_str());
  std::abort();
}

void ThreadMain() {
  block.launch->thread();
  Thread& self = Current();
  self.state = State::kEnded;
  CurrentWarp().ended |= 1u << LaneIndex();
  ++block.ended;
  self.fiber.End();
}

void Resume(int i) {
  block.current = i;
  threadIdx = Current().index;
  if (observer != nullptr) observer->ThreadRuns(i);
  Current().fiber.Run();
  if (observer != nullptr) observer->ThreadRuns(-1);
}

void Wait(State state, const Place& where) {
  Thread& self = Current();
  self.state = state;
  self.where = where;
  self.fiber.GiveWay();
}

// One turn of every thread that can go on. False: none can.
bool TakeTurns() {
  bool progress = false;
  for (int i = 0; i < block.size; ++i) {
    const int taken = block.backwards ? block.size - 1 - i : i;
    if (block.threads[static_cast<size_t>(taken)]->state != State::kReady) continue;
    progress = true;
    Resume(taken);
  }
  block.backwards = !block.backwards;
  return progress;
}

void StartThreads(const dim3& shape) {
  while (static_cast<int>(block.threads.size()) < block.size) {
    block.threads.push_back(std::make_unique<Thread>());
  }
  for (int i = 0; i < block.size; ++i) {
    Thread& thread = *block.threads[static_cast<size_t>(i)];
    const auto at = static_cast<unsigned>(i);
    thread.state = State::kReady;
    thread.index = {at % shape.x, at / shape.x % shape.y, at / (shape.x * shape.y)};
    thread.copies.Clear();
    thread.waited = false;
    thread.products.Clear();
    thread.fiber.Start(&ThreadMain);
  }
}

void StartWarps() {
  const int warps = (block.size + kLanes - 1) / kLanes;
  block.warps.resize(static_cast<size_t>(warps));
  for (int i = 0; i < warps; ++i) {
    Warp& warp = block.warps[static_cast<size_t>(i)];
    const int lanes = std::min(block.size - i * kLanes, kLanes);
    warp.lanes = ~0u >> (kLanes - lanes);
    warp.ended = 0;
    warp.collectives.clear();
  }
  block.warpgroups.resize(static_cast<size_t>(block.size / kWarpgroupThreads));
  for (Warpgroup& warpgroup : block.warpgroups) warpgroup.arrived = 0;
}

void RunBlock(const KernelLaunch& launch) {
  block.launch = &launch;
  block.size = static_cast<int>(launch.block.x * launch.block.y * launch.block.z);
  block.at_barrier = 0;
  block.ended = 0;
  PoisonSharedMemory(launch.shared_bytes);
  ForgetLastCopies(launch.shared_bytes);
  if (observer != nullptr) observer->BlockStarts();
  StartThreads(launch.block);
  StartWarps();
  while (block.ended < block.size) {
    if (!TakeTurns()) DieOfDeadlock();
  }
  for (int i = 0; i < block.size; ++i) {
    const Thread& thread = *block.threads[static_cast<size_t>(i)];
    if (thread.copies.UnderWay())
      Die(ThreadName(thread) + " ended before its copies to shared memory", thread.where);
    if (!thread.products.sums.empty())
      Die(ThreadName(thread) + " ended before its products", thread.where);
    if (launch.dependent && !thread.waited) DieWithoutWait(thread);
  }
  if (!SharedMemoryIsIntact(launch.shared_bytes)) {
    Die("a write beyond dynamic shared memory", Place::Here());
  }
}

}  // namespace

void RunKernel(const KernelLaunch& launch) {
  gridDim = launch.grid;
  blockDim = launch.block;
  if (observer != nullptr) observer->LaunchStarts(launch.overlaps);
  for (unsigned z = 0; z < launch.grid.z; ++z) {
    for (unsigned y = 0; y < launch.grid.y; ++y) {
      for (unsigned x = 0; x < launch.grid.x; ++x) {
        blockIdx = {x, y, z};
        RunBlock(launch);
      }
    }
  }
}

void* DynamicSharedMemory() { return SharedMemory(); }

int SyncThreadsCount(bool predicate, const Place& where) {
  Thread& self = Current();
  self.predicate = predicate;
  if (++block.at_barrier < block.size) {
    Wait(State::kAtBarrier, where);
    return self.barrier_count;
  }
  int count = 0;
  for (int i = 0; i < block.size; ++i) {
    count += block.threads[static_cast<size_t>(i)]->predicate ? 1 : 0;
  }
  for (int i = 0; i < block.size; ++i) {
    Thread& thread = *block.threads[static_cast<size_t>(i)];
    if (&thread != &self && thread.where.line != where.line) {
      Die("barriers at different places: " + Waiting(thread), where);
    }
    thread.state = State::kReady;
    thread.barrier_count = count;
  }
  block.at_barrier = 0;
  if (observer != nullptr) observer->BlockMeets();
  return count;
}

void SyncThreads(const Place& where) { SyncThreadsCount(false, where); }

void WaitForPreviousGrid() {
  Current().waited = true;
  if (observer != nullptr) observer->WaitsForPreviousGrid(block.current);
}

int LaneIndex() { return block.current % kLanes; }
int ThreadIndex() { return block.current; }

void WarpCollective(uint32_t mask, void* data, Combine combine, const Place& where) {
  Warp& warp = CurrentWarp();
  const int first = block.current - LaneIndex();
  const uint32_t self = 1u << LaneIndex();
  if ((mask & self) == 0) Fail("a collective whose mask leaves out its caller", where);
  if ((mask & ~warp.lanes) != 0) Fail("a collective names a lane beyond the block", where);
  if ((mask & warp.ended) != 0) Fail("a collective names a lane that has ended", where);
  auto joined = warp.collectives.end();
  for (auto other = warp.collectives.begin(); other != warp.collectives.end(); ++other) {
    if (other->exchange.mask == mask && other->combine == combine) {
      joined = other;
    } else if ((other->arrived & mask) != 0 && (other->exchange.mask & self) != 0) {
      Fail("lanes of one mask in different collectives", where);
    }
  }
  if (joined == warp.collectives.end()) {
    warp.collectives.push_back(
        {.combine = combine, .exchange = {.mask = mask, .first_thread = first}});
    joined = warp.collectives.end() - 1;
  }
  joined->arrived |= self;
  joined->exchange.lanes[LaneIndex()] = data;
  if (joined->arrived != mask) {
    Wait(State::kInCollective, where);
    return;
  }
  Current().where = where;
  combine(joined->exchange);
  warp.collectives.erase(joined);
  for (int lane = 0; lane < kLanes; ++lane) {
    if ((mask >> lane & 1u) != 0) SetReady(first + lane);
  }
}

void WarpgroupCollective(void* data, CombineWarpgroup combine, const Place& where) {
  const int index = block.current / kWarpgroupThreads;
  const int first = index * kWarpgroupThreads;
  if (first + kWarpgroupThreads > block.size) Fail("a warpgroup beyond the block", where);
  for (int i = 0; i < kWarpgroupThreads; i += kLanes) {
    if (block.warps[static_cast<size_t>((first + i) / kLanes)].ended != 0) {
      Fail("a thread of the warpgroup has ended", where);
    }
  }
  Warpgroup& warpgroup = block.warpgroups[static_cast<size_t>(index)];
  if (warpgroup.arrived == 0) {
    warpgroup.combine = combine;
    warpgroup.where = where;
    warpgroup.exchange.first_thread = first;
  } else if (warpgroup.combine != combine || warpgroup.where.line != where.line) {
    Fail("threads of a warpgroup at different places", where);
  }
  warpgroup.exchange.threads[block.current - first] = data;
  if (++warpgroup.arrived < kWarpgroupThreads) {
    Wait(State::kInWarpgroup, where);
    return;
  }
  warpgroup.arrived = 0;
  Current().where = where;
  combine(warpgroup.exchange);
  for (int i = 0; i < kWarpgroupThreads; ++i) SetReady(first + i);
}

void StartCopy16(void* shared, const void* global) {
  if (reinterpret_cast<uintptr_t>(shared) % 16 != 0 ||
      reinterpret_cast<uintptr_t>(global) % 16 != 0) {
    Fail("a copy to shared memory that is not aligned to 16", Place::Here());
  }
  Current().copies.Start(block.current, shared, global, __builtin_return_address(0));
}

void CommitCopies() { Current().copies.Commit(); }
void WaitForCopies(int pending) { Current().copies.Wait(block.current, pending); }
void FenceCopies() { Current().copies.Fence(); }

void CheckCopyIsVisible(const void* shared, const Place& where) {
  const LastCopy* last = LastCopyTo(shared);
  if (last == nullptr || last->thread < 0) return;
  if (last->under_way) Fail("a product of shared memory that a copy is under way to", where);
  const ThreadCopies& copies = block.threads[static_cast<size_t>(last->thread)]->copies;
  if (copies.fences() == last->fences) {
    Fail("a product of shared memory without a proxy fence behind the copy to it", where);
  }
}

AtomicScope::AtomicScope(const void* address, size_t bytes) {
  if (observer == nullptr) return;
  observer->AtomicStarts({block.current, address, bytes, __builtin_return_address(0)});
}
AtomicScope::~AtomicScope() {
  if (observer != nullptr) observer->AtomicEnds();
}

ProductsOfThread& CurrentProducts() { return Current().products; }

void Fail(const char* what, const Place& where) {
  Die(std::string(what) + ", " + ThreadName(Current()), where);
}

}  // namespace baton::cuda_emulation
