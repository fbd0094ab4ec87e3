// What the lanes of a warp do together.
#include "tests/support/cuda_emulation/device_language.h"
#include "tests/support/ptx/opcodes.h"
#include "tests/support/ptx/thread.h"

namespace baton::ptx {

namespace {

using cuda_emulation::BallotLane;
using cuda_emulation::LaneIndex;
using cuda_emulation::ShuffleLane;
using cuda_emulation::WarpCollective;

enum class Shuffle { kUp, kDown, kButterfly, kIndex };

struct Source {
  int lane = 0;
  bool in_range = false;
};
// `clamp` has the segment's mask in bits 8 to 12: see "shfl.sync" of the ISA.
Source SourceOf(Shuffle kind, uint32_t by, uint32_t clamp) {
  const auto self = static_cast<uint32_t>(LaneIndex());
  const uint32_t segment = clamp >> 8 & 31;
  const int last = static_cast<int>((self & segment) | (clamp & 31 & ~segment));
  const uint32_t first = self & segment;
  const int delta = static_cast<int>(by & 31);
  const int lane = static_cast<int>(self);
  switch (kind) {
    case Shuffle::kUp:
      return {lane - delta, lane - delta >= last};
    case Shuffle::kDown:
      return {lane + delta, lane + delta <= last};
    case Shuffle::kButterfly:
      return {lane ^ delta, (lane ^ delta) <= last};
    case Shuffle::kIndex:
      break;
  }
  const int named = static_cast<int>(first | (by & 31 & ~segment));
  return {named, named <= last};
}

// Operands: the result, whether its source was in range if there are six, value, lane, clamp, mask.
template <Shuffle kind>
void RunShuffle(Thread& thread, const Instruction& instruction) {
  const uint32_t value_at = instruction.count - 4;
  const Source source = SourceOf(kind, Get<uint32_t>(thread, instruction, value_at + 1),
                                 Get<uint32_t>(thread, instruction, value_at + 2));
  const auto value = Get<uint32_t>(thread, instruction, value_at);
  ShuffleLane<uint32_t> lane{
      .value = value, .source = source.in_range ? source.lane : LaneIndex(), .result = value};
  WarpCollective(Get<uint32_t>(thread, instruction, value_at + 3), &lane,
                 &cuda_emulation::CombineShuffle<uint32_t>, instruction.where);
  Set<uint32_t>(thread, instruction, 0, lane.result);
  if (value_at == 2) Set<bool>(thread, instruction, 1, source.in_range);
}

uint32_t Ballot(Thread& thread, const Instruction& instruction) {
  BallotLane lane{.predicate = Get<bool>(thread, instruction, 1), .result = 0};
  WarpCollective(Get<uint32_t>(thread, instruction, 2), &lane, &cuda_emulation::CombineBallot,
                 instruction.where);
  return lane.result;
}
void RunBallot(Thread& thread, const Instruction& instruction) {
  Set<uint32_t>(thread, instruction, 0, Ballot(thread, instruction));
}
void RunAny(Thread& thread, const Instruction& instruction) {
  Set<bool>(thread, instruction, 0, Ballot(thread, instruction) != 0);
}
void RunAll(Thread& thread, const Instruction& instruction) {
  const auto mask = Get<uint32_t>(thread, instruction, 2);
  Set<bool>(thread, instruction, 0, Ballot(thread, instruction) == mask);
}

void RunWarpBarrier(Thread& thread, const Instruction& instruction) {
  char nothing = 0;
  WarpCollective(Get<uint32_t>(thread, instruction, 0), &nothing, &cuda_emulation::CombineBarrier,
                 instruction.where);
}

}  // namespace

void AddCollectives(Opcodes& opcodes) {
  opcodes.Add("shfl.sync.up.b32", &RunShuffle<Shuffle::kUp>);
  opcodes.Add("shfl.sync.down.b32", &RunShuffle<Shuffle::kDown>);
  opcodes.Add("shfl.sync.bfly.b32", &RunShuffle<Shuffle::kButterfly>);
  opcodes.Add("shfl.sync.idx.b32", &RunShuffle<Shuffle::kIndex>);
  opcodes.Add("vote.sync.ballot.b32", &RunBallot);
  opcodes.Add("vote.sync.any.pred", &RunAny);
  opcodes.Add("vote.sync.all.pred", &RunAll);
  opcodes.Add("bar.warp.sync", &RunWarpBarrier);
}

}  // namespace baton::ptx
