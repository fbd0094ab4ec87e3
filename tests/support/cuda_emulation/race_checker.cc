#include "tests/support/cuda_emulation/race_checker.h"

#include <algorithm>
#include <bit>
#include <cstdio>
#include <cstdlib>

#include "tests/support/cuda_emulation/code_lines.h"
#include "tests/support/cuda_emulation/device.h"
#include "tests/support/cuda_emulation/shared_memory.h"

// Where the executable's variables lie; from the linker.
extern "C" {
extern const std::byte __data_start[];
extern const std::byte _end[];
}

namespace baton::cuda_emulation {

namespace {

size_t OffsetIn(std::span<const std::byte> memory, const void* address) {
  return static_cast<size_t>(static_cast<const std::byte*>(address) - memory.data());
}

std::string ThreadName(int thread) { return "thread " + std::to_string(thread); }

}  // namespace

RaceChecker::RaceChecker()
    : dynamic_(SharedMemory(), kMaxSharedBytes),
      variables_(SharedVariables()),
      of_dynamic_(kMaxSharedBytes / 2),
      of_variables_((variables_.size() + 1) / 2),
      of_device_(DeviceMemory::kReservedBytes / (kFolderPages * kPageBytes)) {}

void RaceChecker::LaunchStarts(bool overlaps) {
  overlaps_ = overlaps;
  clock_.StartLaunch(overlaps);
  device_ = {TheDevice().memory.base(), DeviceMemory::kReservedBytes};
}

void RaceChecker::RefuseVariable(const void* address, const void* code) const {
  if (address < static_cast<const void*>(__data_start) || address >= static_cast<const void*>(_end))
    return;
  std::fprintf(stderr, "CUDA emulation: %s writes to a variable that is not in shared memory\n%s",
               ThreadName(running_).c_str(), LinesOf(code).c_str());
  std::abort();
}

void RaceChecker::AtomicStarts(const Access& access) {
  Record(access, Kind::kAtomic);
  in_atomic_ = true;
}

RaceChecker::Piece RaceChecker::Find(const std::byte* address, size_t bytes, int thread) {
  const size_t dynamic = OffsetIn(dynamic_, address);
  if (dynamic < dynamic_.size()) {
    return {&of_dynamic_[dynamic / 2], std::min(bytes, dynamic_.size() - dynamic),
            clock_.block_start()};
  }
  const size_t on_device = OffsetIn(device_, address);
  if (on_device < device_.size()) return FindOnDevice(on_device, bytes, thread);
  const size_t variable = OffsetIn(variables_, address);
  if (variable < variables_.size()) {
    return {&of_variables_[variable / 2], std::min(bytes, variables_.size() - variable),
            clock_.block_start()};
  }
  return {.bytes = bytes};
}

RaceChecker::Piece RaceChecker::FindOnDevice(size_t offset, size_t bytes, int thread) {
  const size_t page_index = offset / kPageBytes;
  std::unique_ptr<Folder>& folder = of_device_[page_index / kFolderPages];
  if (folder == nullptr) folder = std::make_unique<Folder>();
  std::unique_ptr<Page>& page = (*folder)[page_index % kFolderPages];
  if (page == nullptr) page = std::make_unique<Page>();
  const size_t at = offset % kPageBytes;
  const bool early = overlaps_ && !waited_.test(static_cast<size_t>(thread));
  return {&(*page)[at / 2], std::min(bytes, kPageBytes - at),
          early ? clock_.overlap_start() : clock_.launch_start()};
}

void RaceChecker::Record(const Access& access, Kind kind) {
  Step step{.access = access, .kind = kind, .time = clock_.Of(access.thread), .begin = 0};
  for (size_t done = 0; done < access.bytes;) {
    const auto* begin = static_cast<const std::byte*>(access.address) + done;
    const Piece piece = Find(begin, access.bytes - done, access.thread);
    if (piece.pairs == nullptr) return;
    step.begin = piece.begin;
    step.access.address = begin;
    step.access.bytes = piece.bytes;
    RecordPiece(step, piece);
    done += piece.bytes;
  }
}

void RaceChecker::RecordPiece(const Step& step, const Piece& piece) {
  const size_t odd = reinterpret_cast<uintptr_t>(step.access.address) % 2;
  for (size_t at = odd; at < odd + piece.bytes;) {
    Pair& pair = piece.pairs[at / 2];
    const bool both = at % 2 == 0 && at + 1 < odd + piece.bytes;
    if (!both && pair.second == nullptr) pair.second = std::make_unique<History>(pair.first);
    if (at % 2 == 0) RecordStep(step, pair.first);
    if (pair.second != nullptr && (both || at % 2 == 1)) RecordStep(step, *pair.second);
    if (both && step.kind == Kind::kWrite) pair.second.reset();
    at += both ? 2 : 1;
  }
}

// Whether the same thread has done the same before, and nothing has come between.
bool RaceChecker::IsKnown(const Step& step, const History& history) const {
  if (step.kind == Kind::kRead) {
    const Threads& readers = history.readers;
    if (readers.warp == Threads::kSeveralBlocks && readers.time >= step.begin &&
        step.begin >= clock_.launch_start()) {
      return true;
    }
    return readers.time == step.time && readers.warp == step.Warp() &&
           (readers.lanes & step.Lane()) != 0;
  }
  return step.kind == Kind::kWrite && history.write.time == step.time &&
         history.write.thread == step.access.thread && !history.write.copying &&
         history.readers.time == 0 && history.atomics.time == 0;
}

bool RaceChecker::IsBefore(const Write& write, const Step& step) const {
  if (write.time < step.begin) return true;
  return !write.copying && write.time >= clock_.block_start() &&
         clock_.Before(write.time, write.thread, step.access.thread);
}

bool RaceChecker::AreBefore(const Threads& threads, const Step& step) const {
  if (threads.time < step.begin) return true;
  if (threads.warp == Threads::kSeveralBlocks || threads.time < clock_.block_start()) return false;
  if (clock_.BeforeLastBarrier(threads.time)) return true;
  if (threads.warp != step.Warp()) return false;
  for (uint32_t left = threads.lanes; left != 0; left &= left - 1) {
    const int thread = threads.warp * kLanes + std::countr_zero(left);
    if (!clock_.Before(threads.time, thread, step.access.thread)) return false;
  }
  return true;
}

// Adds the thread to those that it did not come after.
void RaceChecker::Join(const Step& step, Threads& threads) const {
  if (AreBefore(threads, step)) {
    threads = {
        .time = step.time, .lanes = step.Lane(), .warp = step.Warp(), .code = step.access.code};
    return;
  }
  if (threads.time < clock_.block_start()) {
    threads.warp = Threads::kSeveralBlocks;
  } else if (threads.warp >= 0 && threads.warp != step.Warp()) {
    threads.warp = Threads::kSeveralWarps;
  }
  threads.lanes |= step.Lane();
  threads.time = std::max(threads.time, step.time);
  threads.code = step.access.code;
}

void RaceChecker::RecordStep(const Step& step, History& history) const {
  if (IsKnown(step, history)) return;
  const Write& write = history.write;
  if (step.kind == Kind::kCopyArrival) {
    history.write = step.AsWrite();
    return;
  }
  if (!IsBefore(write, step)) {
    Report(step,
           {write.copying ? "has had a copy under way to" : "wrote to", NameOf(write), write.code});
  }
  if (step.kind != Kind::kAtomic && !AreBefore(history.atomics, step)) {
    Report(step, {"changed atomically", NameOf(history.atomics), history.atomics.code});
  }
  if (step.kind == Kind::kRead) return Join(step, history.readers);
  if (!AreBefore(history.readers, step)) {
    Report(step, {"read from", NameOf(history.readers), history.readers.code});
  }
  if (step.kind == Kind::kAtomic) return Join(step, history.atomics);
  history = {.write = step.AsWrite()};
}

RaceChecker::Region RaceChecker::RegionOf(const void* address) const {
  const size_t dynamic = OffsetIn(dynamic_, address);
  if (dynamic < dynamic_.size()) return {"dynamic shared memory", dynamic};
  const size_t variable = OffsetIn(variables_, address);
  if (variable < variables_.size()) return {"the __shared__ variables", variable};
  return {"device memory", OffsetIn(device_, address)};
}

std::string RaceChecker::NameOf(RaceTime before_block) const {
  return before_block < clock_.launch_start() ? "a launch that it has not waited for"
                                              : "another block";
}

std::string RaceChecker::NameOf(const Write& write) const {
  return write.time < clock_.block_start() ? NameOf(write.time) : ThreadName(write.thread);
}

std::string RaceChecker::NameOf(const Threads& threads) const {
  if (threads.warp == Threads::kSeveralBlocks || threads.time < clock_.block_start()) {
    return NameOf(threads.time);
  }
  if (threads.warp == Threads::kSeveralWarps) return "another warp";
  return "a thread of warp " + std::to_string(threads.warp);
}

void RaceChecker::Report(const Step& step, const Earlier& earlier) const {
  const Access& access = step.access;
  const Region region = RegionOf(access.address);
  const char* deed = step.kind == Kind::kRead     ? "reads from"
                     : step.kind == Kind::kAtomic ? "changes atomically"
                                                  : "writes to";
  std::fprintf(stderr,
               "CUDA emulation: a race: %s of block (%u, %u, %u) %s bytes %zu to %zu of %s, "
               "unordered with %s, which %s them\nnow:\n%sbefore:\n%s",
               ThreadName(access.thread).c_str(), blockIdx.x, blockIdx.y, blockIdx.z, deed,
               region.offset, region.offset + access.bytes - 1, region.name, earlier.who.c_str(),
               earlier.deed, LinesOf(access.code).c_str(), LinesOf(earlier.code).c_str());
  std::abort();
}

}  // namespace baton::cuda_emulation
