// Ways between KV memory that only a device can touch and memory of the host.
#pragma once

#include <cstddef>
#include <cstdint>
#include <functional>
#include <memory>
#include <span>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "common/ids.h"

namespace baton {

// Copies blocks through host memory of its own, which the device reads and writes at full speed.
// Copies run beside the caller; several may be under way. Belongs to one thread.
class KvStaging {
 public:
  // Called exactly once, inside Progress, Settle or the destructor; with OK when every byte is in
  // place, or with an error after which the copy never writes again.
  using DoneFn = std::function<void(absl::Status)>;

  virtual ~KvStaging() = default;  // settles

  // [bytes asked for], host; addresses never change.
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

// Makes the KvStaging of one KvSender or KvReceiver, on the calling thread, which will use it.
class KvStagingFactory {
 public:
  virtual ~KvStagingFactory() = default;
  // RESOURCE_EXHAUSTED: no room for so much.
  virtual absl::StatusOr<std::unique_ptr<KvStaging>> Create(size_t bytes) = 0;
};

}  // namespace baton
