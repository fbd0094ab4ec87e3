// Copies to shared memory that do not wait, matrix fragments, and products of a warp: the emulation
// does them, as for kernels in C++ (block.h).
#include "tests/support/ptx/memory_spaces.h"
#include "tests/support/ptx/opcodes.h"

namespace baton::ptx {

namespace {

constexpr size_t kCopyBytes = 16;

// Operands: shared address, global address, 16, and how many of them are read: all or none.
void RunCopy(Thread& thread, const Instruction& instruction) {
  const auto bytes = Get<uint32_t>(thread, instruction, 4);
  const auto source_bytes = Get<uint32_t>(thread, instruction, 5);
  if (bytes != kCopyBytes || (source_bytes != 0 && source_bytes != kCopyBytes)) {
    Fail("a copy to shared memory of a size that is not known here", instruction);
  }
  std::byte* target = Locate<Space::kShared>(thread, instruction, AddressAt(thread, instruction, 0),
                                             kCopyBytes, /*writes=*/true);
  const uint64_t from = AddressAt(thread, instruction, 2);
  const std::byte* source = source_bytes == 0
                                ? nullptr
                                : Locate<Space::kGlobal>(thread, instruction, from, kCopyBytes,
                                                         /*writes=*/false);
  cuda_emulation::StartCopy16(target, source);
}
void RunCommit(Thread&, const Instruction&) { cuda_emulation::CommitCopies(); }
void RunWait(Thread& thread, const Instruction& instruction) {
  cuda_emulation::WaitForCopies(Get<int32_t>(thread, instruction, 0));
}
void RunFence(Thread&, const Instruction&) { cuda_emulation::FenceCopies(); }

template <bool transposed>
void RunLoadMatrices(Thread& thread, const Instruction& instruction) {
  const std::byte* row =
      Locate<Space::kShared>(thread, instruction, AddressAt(thread, instruction, 4), kCopyBytes,
                             /*writes=*/false);
  uint32_t fragment[4];
  cuda_emulation::LoadMatrix4(fragment, row, transposed, instruction.where);
  for (uint32_t i = 0; i < 4; ++i) Set<uint32_t>(thread, instruction, i, fragment[i]);
}

// Operands: d of four, a of four, b of two, c of four.
void RunProduct(Thread& thread, const Instruction& instruction) {
  float d[4];
  uint32_t a[4];
  uint32_t b[2];
  for (uint32_t i = 0; i < 4; ++i) {
    a[i] = Get<uint32_t>(thread, instruction, 4 + i);
    d[i] = Get<float>(thread, instruction, 10 + i);
  }
  for (uint32_t i = 0; i < 2; ++i) b[i] = Get<uint32_t>(thread, instruction, 8 + i);
  cuda_emulation::MmaBf16(d, a, b, instruction.where);
  for (uint32_t i = 0; i < 4; ++i) Set<float>(thread, instruction, i, d[i]);
}

}  // namespace

void AddCopies(Opcodes& opcodes) {
  opcodes.Add("cp.async.cg.shared.global", &RunCopy);
  opcodes.Add("cp.async.commit_group", &RunCommit);
  opcodes.Add("cp.async.wait_group", &RunWait);
  opcodes.Add("fence.proxy.async.shared::cta", &RunFence);
}

void AddMatrixOperations(Opcodes& opcodes) {
  opcodes.Add("ldmatrix.sync.aligned.m8n8.x4.shared.b16", &RunLoadMatrices<false>);
  opcodes.Add("ldmatrix.sync.aligned.m8n8.x4.trans.shared.b16", &RunLoadMatrices<true>);
  opcodes.Add("mma.sync.aligned.m16n8k16.row.col.f32.bf16.bf16.f32", &RunProduct);
}

}  // namespace baton::ptx
