// Ways between KV blocks that only a device can touch and memory that transports read and write.
#pragma once

#include <cstddef>
#include <cstdint>
#include <functional>
#include <memory>
#include <span>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "common/ids.h"
#include "common/memory_kind.h"

namespace baton {

// Copies blocks through memory of its own: the host's, which the device reads and writes at full
// speed, or the device's. Copies run beside the caller; several may be under way. Belongs to one
// thread.
class KvStaging {
 public:
  // Called exactly once, inside Progress, Settle or the destructor; with OK when every byte is in
  // place, or with an error after which the copy never writes again.
  using DoneFn = std::function<void(absl::Status)>;

  virtual ~KvStaging() = default;  // settles

  // [bytes asked for]; addresses never change.
  virtual std::span<std::byte> memory() = 0;

  // Starts a copy of `blocks` of `layer`, one after another, each KvLayout::BlockBytes long, to
  // `to` in memory(). REQUIRES: nothing that is enqueued on the device writes them.
  virtual void CopyOut(int32_t layer, std::span<const BlockId> blocks, std::byte* to,
                       DoneFn done) = 0;
  // The way back, from `from` in memory(). REQUIRES: nothing that is enqueued uses the blocks.
  virtual void CopyIn(int32_t layer, const std::byte* from, std::span<const BlockId> blocks,
                      DoneFn done) = 0;

  // Tells of the copies that have ended; returns whether there were any. Never waits.
  virtual bool Progress() = 0;
  // Waits for all copies and tells of them.
  virtual void Settle() = 0;
  virtual bool idle() const = 0;  // no copy is under way
};

// One whose memory() is the device's. Settle also waits for what a transport has enqueued on the
// device and no longer knows of.
class KvDeviceStaging : public KvStaging {
 public:
  virtual MemoryKind memory_kind() const = 0;  // as a transport sees it
  // XXH3-64 of the bytes of the copy out to, or in from, the slot at `slot` that has ended last,
  // with OK: the host cannot look at them.
  virtual uint64_t ChecksumOf(const std::byte* slot) const = 0;
};

// Places for one message each.
struct KvSlots {
  int32_t count = 0;
  int64_t bytes = 0;  // of one
};

// Makes the KvStaging of one KvSender or KvReceiver, on the calling thread, which will use it.
class KvStagingFactory {
 public:
  virtual ~KvStagingFactory() = default;
  // In host memory. RESOURCE_EXHAUSTED: no room for so much.
  virtual absl::StatusOr<std::unique_ptr<KvStaging>> Create(size_t bytes) = 0;
  // In a device's memory, that of the first of several: slots one after another, and each copy's
  // bytes begin with a slot. For transports that reach device_memory(); errors as there.
  // RESOURCE_EXHAUSTED as above.
  virtual absl::StatusOr<std::unique_ptr<KvDeviceStaging>> CreateOnDevice(const KvSlots& slots) = 0;
  // FAILED_PRECONDITION: the blocks are in pieces on several devices which do not reach one another
  // (the message says which), and come together in host memory only. REQUIRES: nothing uses the
  // blocks yet, some of which are written to find that out.
  virtual absl::StatusOr<MemoryKind> device_memory() const = 0;
};

}  // namespace baton
