// Memory in which a transport finds the blocks that it sends, and puts those that it receives.
#pragma once

#include <cstddef>
#include <cstdint>
#include <functional>
#include <memory>
#include <span>
#include <vector>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "common/ids.h"
#include "common/kv_layout.h"
#include "kvtransfer/transport.h"

namespace baton {

// How many messages at once go through staging memory: enough that copies, checksums and sends
// overlap.
inline constexpr int32_t kMaxStagedTransfers = 32;

// Where the pool is host memory a view is the blocks themselves, those of one process of each that
// hold the same heads. Where it is a device's, a view is
// a slot of a KvStaging's memory, and blocks are copied there and back beside what the transport
// does. Belongs to one thread, a KvSender's or KvReceiver's; every function that it is given is
// called exactly once, at once or inside Progress, Settle or the destructor.
class BlockAccess {
 public:
  // [blocks, BlockBytes] in the order of the wire.
  struct View {
    std::vector<MemorySpan> spans;
    int32_t slot = -1;      // of the staging
    uint64_t checksum = 0;  // XXH3-64 of the bytes, of a view that was read
  };
  using ReadFn = std::function<void(absl::StatusOr<View>)>;
  // The checksum of the bytes.
  using WrittenFn = std::function<void(absl::StatusOr<uint64_t>)>;

  // Views at once, and bytes of one, at most.
  struct Limits {
    int32_t views = 0;
    int64_t view_bytes = 0;
  };

  virtual ~BlockAccess() = default;  // settles

  // Gets the blocks' bytes for `ready`, which owes a Release. REQUIRES: less than Limits::views.
  virtual void Read(int32_t layer, std::span<const BlockId> blocks, ReadFn ready) = 0;
  // Memory to receive the blocks' bytes into; owes a Release. REQUIRES: as above.
  virtual View Prepare(int32_t layer, std::span<const BlockId> blocks) = 0;
  // Puts the bytes of `view` into the blocks that it was prepared for. With OK they are there.
  virtual void Write(const View& view, int32_t layer, std::span<const BlockId> blocks,
                     WrittenFn written) = 0;
  virtual void Release(const View& view) = 0;

  // See KvStaging.
  virtual bool Progress() = 0;
  virtual void Settle() = 0;
  virtual bool idle() const = 0;

  // All that views may be of, for Transport::RegisterMemory.
  virtual std::vector<MemorySpan> Memory() const = 0;
};

// On the thread that will use it; `memory` outlives it. See KvStagingFactory for errors.
absl::StatusOr<std::unique_ptr<BlockAccess>> MakeBlockAccess(const KvMemory& memory,
                                                             const BlockAccess::Limits& limits);

}  // namespace baton
