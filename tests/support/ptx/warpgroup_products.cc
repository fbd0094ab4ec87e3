// Operands of a product: sums of `columns` / 2, a of four, b's descriptor, whether it adds, the
// signs of a and b, whether b is transposed.
#include <algorithm>
#include <cstring>
#include <functional>

#include "tests/support/cuda_emulation/warpgroup.h"
#include "tests/support/ptx/opcodes.h"
#include "tests/support/ptx/thread.h"

namespace baton::ptx {

namespace {

constexpr uint32_t kPoison = 0xffffffffu;  // as a float, NaN

using Started = Products::Started;

uint32_t SumCount(const Instruction& instruction) { return instruction.count - 9; }

void ForEachUnderWay(const Products& products,
                     const std::function<void(const Started& started)>& visit) {
  for (const auto& started : products.uncommitted) visit(*started);
  for (const auto& group : products.groups) {
    for (const auto& started : group) visit(*started);
  }
}

// Those of a product under way with the same registers; null: there is none.
std::shared_ptr<Products::Sums> SumsUnderWay(const Thread& thread, const Instruction& instruction) {
  const uint32_t count = SumCount(instruction);
  std::shared_ptr<Products::Sums> sums;
  ForEachUnderWay(thread.products, [&](const Started& started) {
    const Instruction& other = *started.instruction;
    if (SumCount(other) == count &&
        std::equal(other.slots, other.slots + count, instruction.slots)) {
      sums = started.sums;
    }
  });
  return sums;
}

// The registers from operand `begin` on are as the last fence found them.
void CheckFenced(const Thread& thread, const Instruction& instruction, uint32_t begin,
                 uint32_t end) {
  const std::vector<uint64_t>& fenced = thread.products.fenced;
  if (fenced.empty()) Fail("a product without a fence before it", instruction);
  for (uint32_t i = begin; i < end; ++i) {
    const uint32_t slot = instruction.slots[i];
    if (thread.registers[slot] != fenced[slot]) {
      Fail("a product whose registers were changed behind the fence", instruction);
    }
  }
}

void CheckPoison(const Thread& thread, const Instruction& instruction) {
  for (uint32_t i = 0; i < SumCount(instruction); ++i) {
    if (Get<uint32_t>(thread, instruction, i) != kPoison) {
      Fail("the registers of a product's sums were changed before it was waited for", instruction);
    }
  }
}

std::shared_ptr<Products::Sums> TakeSums(Thread& thread, const Instruction& instruction) {
  if (auto sums = SumsUnderWay(thread, instruction)) {
    CheckPoison(thread, instruction);
    return sums;
  }
  CheckFenced(thread, instruction, 0, SumCount(instruction));
  auto sums = std::make_shared<Products::Sums>();
  for (uint32_t i = 0; i < SumCount(instruction); ++i) {
    sums->values.push_back(Get<float>(thread, instruction, i));
    Set<uint32_t>(thread, instruction, i, kPoison);
  }
  cuda_emulation::HandOver(sums->values.data(), sums->values.size() * sizeof(float),
                           instruction.where);
  return sums;
}

template <int columns>
void RunProduct(Thread& thread, const Instruction& instruction) {
  constexpr uint32_t kSums = columns / 2;
  if (instruction.count != kSums + 9) Fail("operands that are not known here", instruction);
  CheckFenced(thread, instruction, kSums, kSums + 4);
  if (Get<int32_t>(thread, instruction, kSums + 6) != 1 ||
      Get<int32_t>(thread, instruction, kSums + 7) != 1) {
    Fail("a product whose sign is not known here", instruction);
  }
  auto started = std::make_unique<Started>();
  started->instruction = &instruction;
  started->sums = TakeSums(thread, instruction);
  for (uint32_t i = 0; i < 4; ++i) {
    started->a[i] = Get<uint32_t>(thread, instruction, kSums + i);
  }
  cuda_emulation::HandOver(started->a.data(), sizeof(started->a), instruction.where);
  ++started->sums->under_way;
  const cuda_emulation::Product product{
      .d = started->sums->values.data(),
      .columns = columns,
      .a = started->a.data(),
      .b = Get<uint64_t>(thread, instruction, kSums + 4),
      .n_major = Get<int32_t>(thread, instruction, kSums + 8) != 0,
      .adds = Get<bool>(thread, instruction, kSums + 5)};
  cuda_emulation::StartProduct(product, instruction.where);
  thread.products.uncommitted.push_back(std::move(started));
}

void RunFence(Thread& thread, const Instruction&) { thread.products.fenced = thread.registers; }

void RunCommit(Thread& thread, const Instruction&) {
  thread.products.groups.push_back(std::move(thread.products.uncommitted));
  thread.products.uncommitted.clear();
  cuda_emulation::CommitProducts();
}

void Deliver(Thread& thread, const Started& started) {
  const Instruction& instruction = *started.instruction;
  const uint32_t count = SumCount(instruction);
  for (uint32_t i = 0; i < 4; ++i) {
    if (Get<uint32_t>(thread, instruction, count + i) != started.a[i]) {
      Fail("the first matrix of a product was changed before it was waited for", instruction);
    }
  }
  if (--started.sums->under_way > 0) return;
  CheckPoison(thread, instruction);
  for (uint32_t i = 0; i < count; ++i) {
    Set<float>(thread, instruction, i, started.sums->values[i]);
  }
}

void RunWait(Thread& thread, const Instruction& instruction) {
  const auto pending = Get<uint32_t>(thread, instruction, 0);
  cuda_emulation::WaitForProducts(static_cast<int>(pending), instruction.where);
  auto& groups = thread.products.groups;
  while (groups.size() > pending) {
    for (const auto& started : groups.front()) Deliver(thread, *started);
    groups.pop_front();
  }
  thread.products.fenced.clear();
}

}  // namespace

void AddWarpgroupProducts(Opcodes& opcodes) {
  const std::string product = "wgmma.mma_async.sync.aligned.";
  opcodes.Add(product + "m64n64k16.f32.bf16.bf16", &RunProduct<64>);
  opcodes.Add(product + "m64n128k16.f32.bf16.bf16", &RunProduct<128>);
  opcodes.Add("wgmma.fence.sync.aligned", &RunFence);
  opcodes.Add("wgmma.commit_group.sync.aligned", &RunCommit);
  opcodes.Add("wgmma.wait_group.sync.aligned", &RunWait);
}

}  // namespace baton::ptx
