// A KV pool as if a device held it: reached only by copies that take their time, and may fail.
#pragma once

#include <cstring>
#include <functional>
#include <map>
#include <memory>
#include <utility>
#include <vector>

#include "absl/synchronization/mutex.h"
#include "common/hash.h"
#include "common/kv_staging.h"
#include "tests/unit/kvtransfer/handoff_fixture.h"

namespace baton::testing {

// The pool outlives the shells that it is given to. What is said below may be said on any thread.
class DevicePool final : public KvStagingFactory {
 public:
  explicit DevicePool(const TestPool& pool) : pool_(pool) {}

  // Whoever takes the region for host memory faults. `direct`: by way of the device's own memory,
  // which the transport reaches, and whose checksums only the device makes.
  KvMemory memory(bool direct) {
    KvRegion region = pool_.region;
    std::fill(region.layer_base.begin(), region.layer_base.end(), nullptr);
    KvMemory memory = JoinKvRegions({region});
    memory.staging = this;
    memory.staged_on_device = direct;
    return memory;
  }
  absl::StatusOr<std::unique_ptr<KvStaging>> Create(size_t bytes) override {
    return std::make_unique<Staging>(*this, bytes);
  }
  absl::StatusOr<std::unique_ptr<KvDeviceStaging>> CreateOnDevice(const KvSlots& slots) override {
    return std::make_unique<Staging>(*this, static_cast<size_t>(slots.count * slots.bytes));
  }
  absl::StatusOr<MemoryKind> device_memory() const override { return MemoryKind::kHost; }

  // Copies that are started end only when this is over, or when somebody waits for them.
  void Hold(bool hold) {
    absl::MutexLock lock(&mutex_);
    hold_ = hold;
  }
  void FailCopies() {
    absl::MutexLock lock(&mutex_);
    fail_ = true;
  }
  // What the device says of the bytes is wrong from now on.
  void SpoilChecksums() {
    absl::MutexLock lock(&mutex_);
    spoil_ = true;
  }
  void AwaitStarted(int count) {
    absl::MutexLock lock(&mutex_);
    const auto enough = [&] { return started_ >= count; };
    mutex_.Await(absl::Condition(&enough));
  }
  int under_way() const {
    absl::MutexLock lock(&mutex_);
    return started_ - ended_;
  }

 private:
  class Staging final : public KvDeviceStaging {
   public:
    Staging(DevicePool& device, size_t bytes) : device_(device), memory_(bytes) {}
    ~Staging() override { Settle(); }
    std::span<std::byte> memory() override { return memory_; }
    void CopyOut(int32_t layer, std::span<const BlockId> blocks, std::byte* to,
                 DoneFn done) override {
      Start(
          [this, layer, ids = std::vector(blocks.begin(), blocks.end()), to] {
            ForEach(layer, ids, [&](std::byte* block, size_t at, size_t bytes) {
              memcpy(to + at, block, bytes);
            });
            Sum(to, ids.size());
          },
          std::move(done));
    }
    void CopyIn(int32_t layer, const std::byte* from, std::span<const BlockId> blocks,
                DoneFn done) override {
      Start(
          [this, layer, ids = std::vector(blocks.begin(), blocks.end()), from] {
            ForEach(layer, ids, [&](std::byte* block, size_t at, size_t bytes) {
              memcpy(block, from + at, bytes);
            });
            Sum(from, ids.size());
          },
          std::move(done));
    }
    MemoryKind memory_kind() const override { return MemoryKind::kHost; }
    uint64_t ChecksumOf(const std::byte* slot) const override {
      return checksums_.at(slot) ^ (device_.Spoils() ? 1 : 0);
    }
    bool Progress() override { return !device_.Held() && EndAll(); }
    void Settle() override { EndAll(); }
    bool idle() const override { return copies_.empty(); }

   private:
    struct Copy {
      std::function<void()> run;
      DoneFn done;
    };
    void Start(std::function<void()> run, DoneFn done) {
      copies_.push_back({std::move(run), std::move(done)});
      device_.Count(/*started=*/1, /*ended=*/0);
    }
    void ForEach(int32_t layer, const std::vector<BlockId>& blocks,
                 const std::function<void(std::byte*, size_t, size_t)>& copy) {
      const KvRegion& region = device_.pool_.region;
      const auto bytes = static_cast<size_t>(region.layout.BlockBytes());
      size_t at = 0;
      for (const BlockId block : blocks)
        copy(region.Block(layer, block), std::exchange(at, at + bytes), bytes);
    }
    void Sum(const std::byte* at, size_t blocks) {
      const auto bytes = static_cast<size_t>(device_.pool_.region.layout.BlockBytes());
      checksums_[at] = HashBytes(at, blocks * bytes);
    }
    bool EndAll() {
      const std::vector<Copy> ended = std::exchange(copies_, {});
      for (const Copy& copy : ended) {
        const bool fails = device_.Fails();
        if (!fails) copy.run();
        device_.Count(/*started=*/0, /*ended=*/1);
        copy.done(fails ? absl::InternalError("the device is broken") : absl::OkStatus());
      }
      return !ended.empty();
    }

    DevicePool& device_;
    std::vector<std::byte> memory_;
    std::vector<Copy> copies_;
    std::map<const std::byte*, uint64_t> checksums_;  // by slot
  };

  bool Held() const {
    absl::MutexLock lock(&mutex_);
    return hold_;
  }
  bool Fails() const {
    absl::MutexLock lock(&mutex_);
    return fail_;
  }
  bool Spoils() const {
    absl::MutexLock lock(&mutex_);
    return spoil_;
  }
  void Count(int started, int ended) {
    absl::MutexLock lock(&mutex_);
    started_ += started;
    ended_ += ended;
  }

  const TestPool& pool_;
  mutable absl::Mutex mutex_;
  bool hold_ = false;
  bool fail_ = false;
  bool spoil_ = false;
  int started_ = 0;
  int ended_ = 0;
};

}  // namespace baton::testing
