// A KV pool with recognisable bytes, and recorders for what the two shells report.
#pragma once

#include <algorithm>
#include <cstring>
#include <functional>
#include <memory>
#include <string>
#include <vector>

#include "absl/synchronization/mutex.h"
#include "common/clock.h"
#include "common/kv_layout.h"
#include "common/log.h"
#include "common/metrics.h"
#include "kvtransfer/kv_receiver.h"
#include "kvtransfer/kv_sender.h"
#include "kvtransfer/transport/loopback_transport.h"
#include "kvtransfer/transport/machine_id.h"
#include "kvtransfer/transport/ucx_transport.h"

namespace baton::testing {

// Memory of one worker's pool: [num_layers][num_blocks * BlockBytes()].
class TestPool {
 public:
  TestPool(const KvLayout& layout, int32_t num_blocks) {
    region.layout = layout;
    region.num_blocks = num_blocks;
    memory_.resize(static_cast<size_t>(layout.num_layers));
    for (auto& layer : memory_) {
      layer.resize(static_cast<size_t>(num_blocks * layout.BlockBytes()));
      region.layer_base.push_back(layer.data());
    }
  }
  void Fill(int32_t layer, BlockId block, uint8_t seed) const {
    std::byte* data = region.Block(layer, block);
    for (int64_t i = 0; i < region.layout.BlockBytes(); ++i) {
      data[i] = static_cast<std::byte>(Expected(layer, seed, i));
    }
  }
  bool Holds(int32_t layer, BlockId block, uint8_t seed) const {
    const std::byte* data = region.Block(layer, block);
    for (int64_t i = 0; i < region.layout.BlockBytes(); ++i) {
      if (data[i] != static_cast<std::byte>(Expected(layer, seed, i))) return false;
    }
    return true;
  }
  bool AllBytesAre(std::byte value) const {
    for (const auto& layer : memory_) {
      for (const std::byte byte : layer) {
        if (byte != value) return false;
      }
    }
    return true;
  }
  bool EqualTo(const TestPool& other) const { return memory_ == other.memory_; }
  void FillAll(std::byte value) {
    for (auto& layer : memory_) std::fill(layer.begin(), layer.end(), value);
  }

  KvRegion region;

 private:
  static uint8_t Expected(int32_t layer, uint8_t seed, int64_t i) {
    return static_cast<uint8_t>(seed * 31 + layer * 7 + i * 13 + (i >> 8));
  }
  std::vector<std::vector<std::byte>> memory_;
};

// Memory of one worker's pool whose heads several processes hold, more than one each where there
// are more of them.
class ShardedPool {
 public:
  // `layout`: of all heads.
  ShardedPool(const KvLayout& layout, int32_t num_blocks, int32_t ranks) {
    KvLayout shard = layout;
    const int32_t copies = std::max(1, ranks / layout.num_kv_heads);
    shard.num_kv_heads = layout.num_kv_heads * copies / ranks;
    std::vector<KvRegion> regions;
    for (int32_t rank = 0; rank < ranks; ++rank) {
      pools_.push_back(std::make_unique<TestPool>(shard, num_blocks));
      regions.push_back(pools_.back()->region);
    }
    memory = JoinKvRegions(std::move(regions), copies);
  }

  // Whether all that hold a head hold the same bytes.
  bool CopiesAreEqual() const {
    for (size_t i = 0; i < memory.regions.size(); ++i) {
      const size_t first = i - i % static_cast<size_t>(memory.copies);
      if (!pools_[i]->EqualTo(*pools_[first])) return false;
    }
    return true;
  }

  KvMemory memory;

 private:
  std::vector<std::unique_ptr<TestPool>> pools_;
};

// Collects events from a shell's thread. Thread-safe.
template <typename Event>
class EventLog {
 public:
  void Add(Event event) {
    absl::MutexLock lock(&mutex_);
    events_.push_back(std::move(event));
  }
  std::function<void(Event)> Sink() {
    return [this](Event event) { Add(std::move(event)); };
  }
  // Waits for `count` events; false after `timeout`.
  bool WaitFor(size_t count, absl::Duration timeout = absl::Seconds(20)) {
    absl::MutexLock lock(&mutex_);
    const auto enough = [&] { return events_.size() >= count; };
    return mutex_.AwaitWithTimeout(absl::Condition(&enough), timeout);
  }
  std::vector<Event> All() {
    absl::MutexLock lock(&mutex_);
    return events_;
  }

 private:
  absl::Mutex mutex_;
  std::vector<Event> events_;
};

template <typename What, typename Event>
int CountOf(const std::vector<Event>& events, RequestKey key) {
  int count = 0;
  for (const Event& event : events) {
    count += event.key == key && std::holds_alternative<What>(event.what);
  }
  return count;
}

inline std::vector<BlockId> Blocks(std::initializer_list<int32_t> ids) {
  std::vector<BlockId> blocks;
  for (const int32_t id : ids) blocks.push_back(BlockId(id));
  return blocks;
}

inline RequestKey Key(uint64_t request, uint32_t attempt = 1) {
  return {RequestId(request), attempt};
}

// "loopback", "tcp", "shm".
inline std::unique_ptr<TransportFactory> MakeFactory(const std::string& name) {
  if (name == "loopback") return MakeLoopbackFactory(MakeLoopbackHub());
  auto factory = MakeUcxTransportFactory({ParseTransportChoice(name).value(), LocalMachineId()});
  return factory.ok() ? *std::move(factory) : nullptr;
}

}  // namespace baton::testing
