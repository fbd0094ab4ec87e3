#include "engine/parallel/shared_memory_communicator.h"

#include <immintrin.h>
#include <linux/futex.h>
#include <sys/syscall.h>
#include <unistd.h>

#include <algorithm>
#include <cerrno>
#include <climits>
#include <cstring>
#include <utility>
#include <vector>

#include "absl/strings/str_cat.h"
#include "common/check.h"
#include "common/clock.h"
#include "common/strings.h"
#include "engine/parallel/sum_parts.h"

namespace baton {
namespace {

constexpr absl::Duration kSpin = absl::Microseconds(100);
constexpr int kPausesPerClockRead = 64;
constexpr absl::Duration kLook = absl::Milliseconds(50);  // between two questions whether all live

enum class Operation : uint32_t { kAllGather = 1, kGather = 2, kAllReduceSum = 3 };

// Until somebody wakes, `word` is not `seen`, `longest` is over, or a signal comes. Not private:
// processes share it.
void FutexWait(std::atomic<uint32_t>& word, uint32_t seen, absl::Duration longest) {
  const timespec timeout = absl::ToTimespec(longest);
  syscall(SYS_futex, &word, FUTEX_WAIT, seen, &timeout, nullptr, 0);
}

void FutexWakeAll(std::atomic<uint32_t>& word) {
  syscall(SYS_futex, &word, FUTEX_WAKE, INT_MAX, nullptr, nullptr, 0);
}

class SharedMemoryCommunicator final : public Communicator {
 public:
  SharedMemoryCommunicator(std::shared_ptr<GroupMemory> memory, const SharedMemoryOptions& options)
      : memory_(std::move(memory)), options_(options) {}
  ~SharedMemoryCommunicator() override {
    Leave(status_.ok() ? RankPresence::kLeft : RankPresence::kGaveUp);
  }

  int32_t rank() const override { return options_.rank; }
  int32_t size() const override { return memory_->ranks(); }

  absl::Status Connect() {
    Arrive();
    return AwaitAll(options_.connect_timeout);
  }

  absl::Status AllGather(std::span<const std::byte> mine, std::span<std::byte> all) override {
    BATON_CHECK(all.size() == mine.size() * static_cast<size_t>(size())) << all.size();
    return Exchange(Operation::kAllGather, mine, true,
                    [&](size_t offset, size_t bytes) { Join(mine.size(), offset, bytes, all); });
  }

  absl::Status Gather(std::span<const std::byte> mine, std::span<std::byte> all) override {
    BATON_CHECK(rank() != 0 || all.size() == mine.size() * static_cast<size_t>(size()));
    return Exchange(Operation::kGather, mine, rank() == 0,
                    [&](size_t offset, size_t bytes) { Join(mine.size(), offset, bytes, all); });
  }

  absl::Status AllReduceSum(std::span<float> numbers) override {
    parts_.resize(static_cast<size_t>(size()));
    return Exchange(
        Operation::kAllReduceSum, std::as_bytes(numbers), true, [&](size_t offset, size_t bytes) {
          for (int32_t of = 0; of < size(); ++of) {
            parts_[static_cast<size_t>(of)] =
                reinterpret_cast<const float*>(memory_->slot(of, chunk_ - 1));
          }
          SumParts(parts_, numbers.subspan(offset / sizeof(float), bytes / sizeof(float)));
        });
  }

 private:
  // Moves `mine` through the slots; `take(offset, bytes)` reads those of chunk_ - 1, in which every
  // rank's [offset, offset + bytes) is. A rank that does not take goes on when its part is written.
  template <typename Take>
  absl::Status Exchange(Operation operation, std::span<const std::byte> mine, bool takes,
                        const Take& take) {
    for (size_t offset = 0; offset < mine.size(); offset += kSlotBytes) {
      const size_t bytes = std::min(kSlotBytes, mine.size() - offset);
      RETURN_IF_ERROR(AwaitAll(options_.timeout));  // then all have read what the slot held
      memory_->slot_header(rank(), chunk_) = {.operation = static_cast<uint32_t>(operation),
                                              .message_bytes = mine.size()};
      std::memcpy(memory_->slot(rank(), chunk_), mine.data() + offset, bytes);
      Arrive();
      if (!takes) continue;
      RETURN_IF_ERROR(AwaitAll(options_.timeout));
      CheckSame(operation, mine.size());
      take(offset, bytes);
    }
    return absl::OkStatus();
  }

  void CheckSame(Operation operation, size_t message_bytes) {
    for (int32_t of = 0; of < size(); ++of) {
      const SlotHeader& theirs = memory_->slot_header(of, chunk_ - 1);
      BATON_CHECK(theirs.operation == static_cast<uint32_t>(operation) &&
                  theirs.message_bytes == message_bytes)
          << "rank " << of << " does " << theirs.operation << " with " << theirs.message_bytes
          << " bytes, rank " << rank() << " does " << static_cast<uint32_t>(operation) << " with "
          << message_bytes;
    }
  }

  void Join(size_t message_bytes, size_t offset, size_t bytes, std::span<std::byte> all) {
    for (int32_t of = 0; of < size(); ++of) {
      std::memcpy(all.data() + static_cast<size_t>(of) * message_bytes + offset,
                  memory_->slot(of, chunk_ - 1), bytes);
    }
  }

  // This rank's part of chunk_ is written.
  void Arrive() {
    ++chunk_;
    memory_->state(rank()).chunks.store(chunk_, std::memory_order_relaxed);
    const uint32_t arrivals = memory_->header().arrivals.fetch_add(1) + 1;
    if (arrivals == ArrivalsBefore(chunk_, size())) WakeSleepers();
  }

  // Sequentially consistent with Sleep: either this sees the sleeper, or that sees what is new.
  void WakeSleepers() {
    GroupHeader& header = memory_->header();
    if (header.sleepers.load() == 0) return;
    header.signal.fetch_add(1);
    FutexWakeAll(header.signal);
  }

  bool AllArrived() {
    return HasReached(memory_->header().arrivals.load(), ArrivalsBefore(chunk_, size()));
  }

  // In all chunks that this rank has arrived in.
  absl::Status AwaitAll(absl::Duration timeout) {
    if (!status_.ok()) return status_;
    if (AllArrived() || Spin()) return absl::OkStatus();
    status_ = Sleep(timeout);
    if (!status_.ok()) Leave(RankPresence::kGaveUp);
    return status_;
  }

  bool Spin() {
    if (options_.spin <= absl::ZeroDuration()) return false;
    const absl::Time deadline = clock_.Now() + options_.spin;
    do {
      for (int i = 0; i < kPausesPerClockRead; ++i) {
        if (AllArrived()) return true;
        _mm_pause();
      }
    } while (clock_.Now() < deadline);
    return false;
  }

  absl::Status Sleep(absl::Duration timeout) {
    absl::Time now = clock_.Now();
    const absl::Time deadline = now + timeout;
    absl::Time look = now + kLook;  // when to ask whether all live
    GroupHeader& header = memory_->header();
    for (;;) {
      header.sleepers.fetch_add(1);
      const uint32_t seen = header.signal.load();
      const absl::Status there = AllArrived() ? absl::OkStatus() : CheckPresent();
      if (there.ok() && !AllArrived()) {
        FutexWait(header.signal, seen, std::min(kLook, timeout));
      }
      header.sleepers.fetch_sub(1);
      if (AllArrived()) return absl::OkStatus();
      RETURN_IF_ERROR(there);
      now = clock_.Now();
      if (now >= look && options_.check_alive) {
        RETURN_IF_ERROR(Unavailable(options_.check_alive()));
        look = now + kLook;
      }
      if (now > deadline) return Late(timeout);
    }
  }

  // The first rank that has not arrived; -1: none.
  int32_t Missing() {
    for (int32_t of = 0; of < size(); ++of) {
      if (!HasReached(memory_->state(of).chunks.load(), chunk_)) return of;
    }
    return -1;
  }

  // All may still arrive.
  absl::Status CheckPresent() {
    for (int32_t of = 0; of < size(); ++of) {
      RankState& state = memory_->state(of);
      // In this order: what a rank has done before it left counts.
      const RankPresence presence = state.presence.load();
      const bool arrived = HasReached(state.chunks.load(), chunk_);
      if (presence == RankPresence::kGaveUp || (presence == RankPresence::kLeft && !arrived)) {
        return absl::UnavailableError(absl::StrCat("tensor parallelism: rank ", of, " has left"));
      }
    }
    return absl::OkStatus();
  }

  absl::Status Late(absl::Duration timeout) {
    return absl::UnavailableError(absl::StrCat("tensor parallelism: rank ", Missing(),
                                               " was not there within ",
                                               absl::FormatDuration(timeout)));
  }

  static absl::Status Unavailable(const absl::Status& why) {
    if (why.ok()) return why;
    return absl::UnavailableError(absl::StrCat("tensor parallelism: ", why.message()));
  }

  void Leave(RankPresence how) {
    memory_->state(rank()).presence.store(how);
    WakeSleepers();
  }

  const std::shared_ptr<GroupMemory> memory_;  // with the ranks that are threads of this process
  const SharedMemoryOptions options_;
  const MonotonicClock clock_;
  uint32_t chunk_ = kFirstChunk;     // the next that this rank arrives in
  absl::Status status_;              // after an error: it
  std::vector<const float*> parts_;  // [size]: scratch
};

}  // namespace

absl::Duration SpinTime(int32_t ranks, int32_t threads, int32_t cpus) {
  return int64_t{ranks} * threads <= cpus ? kSpin : absl::ZeroDuration();
}

absl::StatusOr<std::unique_ptr<Communicator>> ConnectSharedMemory(
    std::shared_ptr<GroupMemory> memory, const SharedMemoryOptions& options) {
  if (options.rank < 0 || options.rank >= memory->ranks()) {
    return absl::InvalidArgumentError(
        absl::StrCat("rank ", options.rank, " of a group of ", memory->ranks()));
  }
  auto not_yet = RankPresence::kNotYet;
  if (!memory->state(options.rank)
           .presence.compare_exchange_strong(not_yet, RankPresence::kThere)) {
    return absl::InvalidArgumentError(
        absl::StrCat("rank ", options.rank, " of the group has been there already"));
  }
  auto communicator = std::make_unique<SharedMemoryCommunicator>(std::move(memory), options);
  RETURN_IF_ERROR(communicator->Connect());
  return communicator;
}

}  // namespace baton
