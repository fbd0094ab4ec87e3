// Branches, and what orders threads and grids.
#include "tests/support/ptx/opcodes.h"
#include "tests/support/ptx/thread.h"

namespace baton::ptx {

namespace {

void RunBranch(Thread& thread, const Instruction& instruction) {
  thread.next = thread.kernel->code.data() + instruction.target;
}
void RunReturn(Thread& thread, const Instruction&) { thread.next = nullptr; }

// Blocks run one after another, and a thread's writes are there at once.
void RunNothing(Thread&, const Instruction&) {}

void CheckBarrier(const Thread& thread, const Instruction& instruction, uint32_t i) {
  if (Get<uint32_t>(thread, instruction, i) != 0) {
    Fail("a barrier other than the block's", instruction);
  }
}
void RunBarrier(Thread& thread, const Instruction& instruction) {
  CheckBarrier(thread, instruction, 0);
  cuda_emulation::SyncThreads(instruction.where);
}
int CountAtBarrier(Thread& thread, const Instruction& instruction, bool predicate) {
  CheckBarrier(thread, instruction, 1);
  return cuda_emulation::SyncThreadsCount(predicate, instruction.where);
}
void RunBarrierCount(Thread& thread, const Instruction& instruction) {
  const bool predicate = Get<bool>(thread, instruction, 2);
  Set<uint32_t>(thread, instruction, 0,
                static_cast<uint32_t>(CountAtBarrier(thread, instruction, predicate)));
}
void RunBarrierAny(Thread& thread, const Instruction& instruction) {
  const bool predicate = Get<bool>(thread, instruction, 2);
  Set<bool>(thread, instruction, 0, CountAtBarrier(thread, instruction, predicate) > 0);
}
void RunBarrierAll(Thread& thread, const Instruction& instruction) {
  const bool predicate = Get<bool>(thread, instruction, 2);
  Set<bool>(thread, instruction, 0, CountAtBarrier(thread, instruction, !predicate) == 0);
}

void RunWaitForPreviousGrid(Thread& thread, const Instruction&) {
  thread.waits_for_previous_grid = false;
  cuda_emulation::WaitForPreviousGrid();
}

}  // namespace

void AddControl(Opcodes& opcodes) {
  opcodes.Add("bra", &RunBranch);
  opcodes.Add("bra.uni", &RunBranch);
  opcodes.Add("ret", &RunReturn);
  opcodes.Add("exit", &RunReturn);
  opcodes.Add("bar.sync", &RunBarrier);
  opcodes.Add("bar.red.popc.u32", &RunBarrierCount);
  opcodes.Add("bar.red.or.pred", &RunBarrierAny);
  opcodes.Add("bar.red.and.pred", &RunBarrierAll);
  opcodes.Add("membar.gl", &RunNothing);
  opcodes.Add("membar.cta", &RunNothing);
  opcodes.Add("griddepcontrol.launch_dependents", &RunNothing);
  opcodes.Add("griddepcontrol.wait", &RunWaitForPreviousGrid);
}

}  // namespace baton::ptx
