#include "engine/scheduler/sequence.h"

#include "common/check.h"

namespace baton {

bool IsLegalTransition(BranchPhase from, BranchPhase to) {
  if (to == BranchPhase::kFinished) return from != BranchPhase::kFinished;
  switch (from) {
    case BranchPhase::kWaiting:
      return to == BranchPhase::kPrefill;
    case BranchPhase::kPrefill:
      return to == BranchPhase::kDecode || to == BranchPhase::kHeld || to == BranchPhase::kWaiting;
    case BranchPhase::kDecode:
      return to == BranchPhase::kWaiting;
    case BranchPhase::kLanding:
      return to == BranchPhase::kDecode;
    case BranchPhase::kHeld:
    case BranchPhase::kFinished:
      return false;
  }
  return false;
}

BlockRef BlockTable::Replace(int32_t index, BlockRef block) {
  const auto at = static_cast<size_t>(index);
  ids_[at] = block.id();
  std::swap(refs_[at], block);
  return block;
}

void BlockTable::Truncate(int32_t size) {
  while (this->size() > size) {
    refs_.pop_back();
    ids_.pop_back();
  }
}

void Branch::MoveTo(BranchPhase to) {
  BATON_CHECK(IsLegalTransition(phase, to))
      << "sample " << sample << " from phase " << static_cast<int>(phase) << " to "
      << static_cast<int>(to);
  phase = to;
}

int32_t Sequence::open_branches() const {
  int32_t open = 0;
  for (const Branch& branch : branches) open += branch.phase != BranchPhase::kFinished;
  return open;
}

}  // namespace baton
