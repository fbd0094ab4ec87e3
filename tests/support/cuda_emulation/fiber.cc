#include "tests/support/cuda_emulation/fiber.h"

#include <sys/mman.h>

#include <cstdint>
#include <cstdlib>

#include "common/check.h"

// Keeps what a called function must keep, and changes stacks.
extern "C" void baton_switch_stack(void** save_stack_pointer, void* stack_pointer);
asm(R"(
.text
.globl baton_switch_stack
.type baton_switch_stack, @function
baton_switch_stack:
  pushq %rbp
  pushq %rbx
  pushq %r12
  pushq %r13
  pushq %r14
  pushq %r15
  movq %rsp, (%rdi)
  movq %rsi, %rsp
  popq %r15
  popq %r14
  popq %r13
  popq %r12
  popq %rbx
  popq %rbp
  ret
.size baton_switch_stack, .-baton_switch_stack
)");

// There with AddressSanitizer only: null otherwise.
extern "C" {
[[gnu::weak]] void __sanitizer_start_switch_fiber(void** fake_stack_save, const void* bottom,
                                                  size_t size);
[[gnu::weak]] void __sanitizer_finish_switch_fiber(void* fake_stack_save, const void** bottom_old,
                                                   size_t* size_old);
}

namespace baton::cuda_emulation {

namespace {
constexpr size_t kStackBytes = 256 << 10;  // taken as it is used
constexpr int kSavedRegisters = 6;
Fiber* running = nullptr;
}  // namespace

Fiber::Fiber() {
  void* stack = mmap(nullptr, kStackBytes, PROT_READ | PROT_WRITE,
                     MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE | MAP_STACK, -1, 0);
  BATON_CHECK(stack != MAP_FAILED);
  stack_ = static_cast<std::byte*>(stack);
}

Fiber::~Fiber() { munmap(stack_, kStackBytes); }

void Fiber::Start(void (*entry)()) {
  entry_ = entry;
  // As if Enter had been called, with the stack aligned as the ABI has it at a function's entry.
  auto* top = reinterpret_cast<uintptr_t*>(stack_ + kStackBytes) - 1;
  *--top = reinterpret_cast<uintptr_t>(&Fiber::Enter);
  for (int i = 0; i < kSavedRegisters; ++i) *--top = 0;
  stack_pointer_ = top;
  fake_stack_ = nullptr;
}

void Fiber::Run() {
  running = this;
  void* fake_stack = nullptr;
  if (__sanitizer_start_switch_fiber != nullptr) {
    __sanitizer_start_switch_fiber(&fake_stack, stack_, kStackBytes);
  }
  baton_switch_stack(&caller_stack_pointer_, stack_pointer_);
  if (__sanitizer_finish_switch_fiber != nullptr) {
    __sanitizer_finish_switch_fiber(fake_stack, nullptr, nullptr);
  }
}

void Fiber::Enter() {
  Fiber* self = running;
  if (__sanitizer_finish_switch_fiber != nullptr) {
    __sanitizer_finish_switch_fiber(nullptr, &self->caller_stack_, &self->caller_stack_bytes_);
  }
  self->entry_();
  std::abort();  // it did not end by End
}

void Fiber::Leave(void** fake_stack) {
  if (__sanitizer_start_switch_fiber != nullptr) {
    __sanitizer_start_switch_fiber(fake_stack, caller_stack_, caller_stack_bytes_);
  }
  baton_switch_stack(&stack_pointer_, caller_stack_pointer_);
}

void Fiber::GiveWay() {
  Leave(&fake_stack_);
  if (__sanitizer_finish_switch_fiber != nullptr) {
    __sanitizer_finish_switch_fiber(fake_stack_, &caller_stack_, &caller_stack_bytes_);
  }
}

void Fiber::End() {
  Leave(nullptr);
  std::abort();  // an ended fiber was run
}

}  // namespace baton::cuda_emulation
