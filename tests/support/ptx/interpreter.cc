#include "tests/support/ptx/interpreter.h"

#include <algorithm>
#include <cstring>
#include <iterator>
#include <memory>
#include <string>
#include <vector>

#include "tests/support/ptx/memory_spaces.h"
#include "tests/support/ptx/thread.h"
#include "tests/support/ptx/traffic.h"

namespace baton::ptx {

namespace {

constexpr int kPoison = 0xff;  // the bytes of registers that nothing was written to

// Of the block that runs; kept for the next one.
std::vector<std::unique_ptr<Thread>> threads;
unsigned to_start = 0;  // of the block's
unsigned running = 0;

void Prepare(Thread& thread, const Kernel& kernel, const std::byte* params) {
  const unsigned special[kSpecialSlots] = {threadIdx.x,
                                           threadIdx.y,
                                           threadIdx.z,
                                           blockDim.x,
                                           blockDim.y,
                                           blockDim.z,
                                           blockIdx.x,
                                           blockIdx.y,
                                           blockIdx.z,
                                           gridDim.x,
                                           gridDim.y,
                                           gridDim.z,
                                           static_cast<unsigned>(cuda_emulation::LaneIndex())};
  thread.registers.resize(kernel.SlotCount());
  std::memset(thread.registers.data(), kPoison, kernel.SlotCount() * sizeof(uint64_t));
  std::copy(std::begin(special), std::end(special), thread.registers.begin());
  std::copy(kernel.constants.begin(), kernel.constants.end(),
            thread.registers.begin() + kSpecialSlots);
  thread.kernel = &kernel;
  thread.next = kernel.code.data();
  thread.params = params;
  thread.local.assign(kernel.local_bytes, std::byte{0xff});
  thread.waits_for_previous_grid = kernel.waits_for_previous_grid;
  thread.products.Clear();
}

}  // namespace

void RunThread(const Kernel& kernel, const std::byte* params) {
  if (to_start == 0) {
    to_start = blockDim.x * blockDim.y * blockDim.z;
    running = to_start;
    PrepareBlock(kernel);
  }
  --to_start;
  const auto index = static_cast<size_t>(cuda_emulation::ThreadIndex());
  while (threads.size() <= index) threads.push_back(std::make_unique<Thread>());
  Thread& thread = *threads[index];
  Prepare(thread, kernel, params);
  while (thread.next != nullptr) {
    const Instruction& instruction = *thread.next++;
    if (traffic != nullptr) traffic->Comes(thread, instruction);
    if (instruction.guard != Instruction::kUnguarded &&
        (thread.registers[instruction.guard] != 0) == instruction.guard_is_negated) {
      continue;
    }
    instruction.run(thread, instruction);
  }
  if (--running == 0 && traffic != nullptr) traffic->EndBlock();
}

void Fail(const char* what, const Instruction& instruction) {
  const std::string message = std::string(what) + " in \"" + std::string(instruction.text) + '"';
  cuda_emulation::Fail(message.c_str(), instruction.where);
}

}  // namespace baton::ptx
