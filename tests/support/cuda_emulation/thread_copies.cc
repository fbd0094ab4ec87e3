#include "tests/support/cuda_emulation/thread_copies.h"

#include <algorithm>
#include <cstring>
#include <utility>

#include "tests/support/cuda_emulation/shared_memory.h"

namespace baton::cuda_emulation {

namespace {

constexpr size_t kCopyBytes = 16;
std::vector<LastCopy> last_copies(kMaxSharedBytes / kCopyBytes);

LastCopy* Find(const void* shared) {
  const auto* at = static_cast<const std::byte*>(shared);
  if (at < SharedMemory() || at >= SharedMemory() + kMaxSharedBytes) return nullptr;
  return &last_copies[static_cast<size_t>(at - SharedMemory()) / kCopyBytes];
}

}  // namespace

void ThreadCopies::Start(int thread, void* shared, const void* global, const void* code) {
  std::memset(shared, 0xff, kCopyBytes);
  if (LastCopy* last = Find(shared)) *last = {.thread = thread, .under_way = true};
  uncommitted_.push_back({shared, global, code});
  Observe(&Observer::CopyStarts, thread, uncommitted_.back());
}

void ThreadCopies::Commit() {
  groups_.push_back(std::move(uncommitted_));
  uncommitted_.clear();
}

void ThreadCopies::Wait(int thread, int pending) {
  while (static_cast<int>(groups_.size()) > pending) {
    for (const Copy& copy : groups_.front()) {
      if (copy.global == nullptr) {
        std::memset(copy.shared, 0, kCopyBytes);
      } else {
        std::memcpy(copy.shared, copy.global, kCopyBytes);
      }
      if (LastCopy* last = Find(copy.shared)) *last = {.thread = thread, .fences = fences_};
      Observe(&Observer::CopyArrives, thread, copy);
    }
    groups_.pop_front();
  }
}

bool ThreadCopies::UnderWay() const {
  return !uncommitted_.empty() ||
         std::ranges::any_of(groups_, [](const auto& group) { return !group.empty(); });
}

void ThreadCopies::Clear() {
  uncommitted_.clear();
  groups_.clear();
  fences_ = 0;
}

// What it reads it may read from its start until it arrives.
void ThreadCopies::Observe(void (Observer::*step)(const Access&), int thread, const Copy& copy) {
  if (observer == nullptr) return;
  if (copy.global != nullptr) observer->Reads({thread, copy.global, kCopyBytes, copy.code});
  (observer->*step)({thread, copy.shared, kCopyBytes, copy.code});
}

const LastCopy* LastCopyTo(const void* shared) { return Find(shared); }

void ForgetLastCopies(size_t shared_bytes) {
  std::fill_n(last_copies.begin(), (shared_bytes + kCopyBytes - 1) / kCopyBytes, LastCopy{});
}

}  // namespace baton::cuda_emulation
