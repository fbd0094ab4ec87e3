#include "engine/model/cuda/cuda_device_staging.h"

#include <cuda_runtime.h>

#include <array>
#include <deque>
#include <mutex>
#include <utility>
#include <vector>

#include "common/check.h"
#include "engine/kernels/cuda/checksum.h"
#include "engine/kernels/cuda/copy_rows.h"
#include "engine/kernels/cuda/device_array.h"
#include "engine/kernels/cuda/event.h"
#include "engine/kernels/cuda/graph.h"
#include "engine/kernels/cuda/transport_memory.h"
#include "engine/model/cuda/kv_copy_status.h"

namespace baton {
namespace {

constexpr size_t kStreams = 8;
constexpr int64_t kSumsOfBlock = 8;  // see ChecksumArgs

// Of a block of all parts.
int64_t WireBytes(const ReachedKv& kv) {
  return kv.block_bytes * static_cast<int64_t>(kv.parts.size() / kv.copies);
}

class CudaDeviceStaging final : public KvDeviceStaging {
 public:
  CudaDeviceStaging(ReachedKv kv, const KvSlots& slots)
      : kv_(std::move(kv)),
        slots_(slots),
        sums_of_slot_(ChecksumBlocks(slots.bytes) * kSumsOfBlock),
        layers_(kv_.parts.size()) {}
  absl::Status Allocate();
  ~CudaDeviceStaging() override {
    Settle();
    for (Lane& lane : lanes_) {
      if (lane.stream != nullptr) cudaStreamDestroy(lane.stream);
    }
  }

  std::span<std::byte> memory() override { return {memory_.data(), memory_.size()}; }
  MemoryKind memory_kind() const override { return TransportMemoryKind::kKind; }

  void CopyOut(int32_t layer, std::span<const BlockId> blocks, std::byte* to,
               DoneFn done) override {
    const KvSlotArgs args = Args(layer, blocks, to);
    Start(SlotOf(to), std::move(done), [&](cudaStream_t stream) {
      const cudaError_t error = GatherKvBlocks(stream, args);
      return error == cudaSuccess ? EnqueueChecksumOf(args, stream) : error;
    });
  }
  void CopyIn(int32_t layer, const std::byte* from, std::span<const BlockId> blocks,
              DoneFn done) override {
    const size_t slot = SlotOf(from);
    const KvSlotArgs args = Args(layer, blocks, memory_.data() + (from - memory_.data()));
    Start(slot, std::move(done), [&](cudaStream_t stream) {
      const cudaError_t error = EnqueueChecksumOf(args, stream);
      return error == cudaSuccess ? ScatterKvBlocks(stream, args) : error;
    });
  }
  uint64_t ChecksumOf(const std::byte* slot) const override {
    return checksums_.data()[SlotOf(slot)];
  }

  // Those of one stream end in order.
  bool Progress() override {
    bool any = false;
    for (Lane& lane : lanes_) {
      for (; !lane.copies.empty(); any = true) {
        const Copy& first = lane.copies.front();
        // Of a copy that could not be started as a whole, a part may have been.
        const cudaError_t state =
            first.error == cudaSuccess ? first.ended.Query() : cudaStreamSynchronize(lane.stream);
        if (state == cudaErrorNotReady) break;
        EndFirst(lane, state);
      }
    }
    return any;
  }
  void Settle() override {
    for (Lane& lane : lanes_) {
      const cudaError_t state = cudaStreamSynchronize(lane.stream);
      while (!lane.copies.empty()) EndFirst(lane, state);
    }
    // A transport that was destroyed leaves what it has enqueued on streams that nobody else knows.
    // An error is of a device that does nothing any more.
    const std::lock_guard no_capture(CaptureMutex());
    cudaDeviceSynchronize();
  }
  bool idle() const override { return under_way_ == 0; }

 private:
  struct Copy {
    CudaEvent ended;
    DoneFn done;
    cudaError_t error = cudaSuccess;  // of starting it
  };
  struct Lane {
    cudaStream_t stream = nullptr;
    std::deque<Copy> copies;  // under way, in order
  };

  size_t SlotOf(const std::byte* at) const {
    const int64_t offset = at - memory_.data();
    BATON_CHECK(offset >= 0 && offset % slots_.bytes == 0) << offset << slots_.bytes;
    return static_cast<size_t>(offset / slots_.bytes);
  }
  // Until the next call.
  KvSlotArgs Args(int32_t layer, std::span<const BlockId> blocks, std::byte* slot) {
    for (size_t i = 0; i < layers_.size(); ++i) layers_[i] = kv_.parts[i].Layer(layer);
    return {.layers = layers_,
            .copies = kv_.copies,
            .slot = slot,
            .block_bytes = kv_.block_bytes,
            .blocks = blocks};
  }
  cudaError_t EnqueueChecksumOf(const KvSlotArgs& args, cudaStream_t stream) {
    const size_t slot = SlotOf(args.slot);
    return EnqueueChecksum(
        stream, {.data = args.slot,
                 .length_bytes = static_cast<int64_t>(args.blocks.size()) * WireBytes(kv_),
                 .sums = sums_.data() + slot * static_cast<size_t>(sums_of_slot_),
                 .checksum = checksums_.data() + slot});
  }
  template <typename Enqueue>
  void Start(size_t slot, DoneFn done, Enqueue enqueue) {
    Lane& lane = lanes_[slot % kStreams];
    Copy started{.done = std::move(done)};
    started.error = TakeEvent(&started.ended);
    if (started.error == cudaSuccess) started.error = enqueue(lane.stream);
    if (started.error == cudaSuccess) started.error = started.ended.Record(lane.stream);
    lane.copies.push_back(std::move(started));
    ++under_way_;
  }
  // Ended copies give their events back.
  cudaError_t TakeEvent(CudaEvent* event) {
    if (events_.empty()) return event->Make();
    *event = std::move(events_.back());
    events_.pop_back();
    return cudaSuccess;
  }
  // `state`: what came of the stream up to it.
  void EndFirst(Lane& lane, cudaError_t state) {
    Copy ended = std::move(lane.copies.front());
    lane.copies.pop_front();
    --under_way_;
    if (ended.error == cudaSuccess) events_.push_back(std::move(ended.ended));
    ended.done(KvCopyStatus(ended.error != cudaSuccess ? ended.error : state));
  }

  const ReachedKv kv_;
  const KvSlots slots_;
  const int64_t sums_of_slot_;
  std::vector<std::byte*> layers_;    // as kv_.parts
  TransportArray<std::byte> memory_;  // [slots_.count, slots_.bytes]
  DeviceArray<uint64_t> sums_;        // [slots_.count, sums_of_slot_]
  PinnedArray<uint64_t> checksums_;   // [slots_.count]
  std::array<Lane, kStreams> lanes_;
  int under_way_ = 0;
  std::vector<CudaEvent> events_;
};

absl::Status CudaDeviceStaging::Allocate() {
  const auto count = static_cast<size_t>(slots_.count);
  const auto bytes = count * static_cast<size_t>(slots_.bytes);
  ASSIGN_OR_RETURN(memory_, TransportArray<std::byte>::Create(bytes));
  ASSIGN_OR_RETURN(sums_,
                   DeviceArray<uint64_t>::Create(count * static_cast<size_t>(sums_of_slot_)));
  ASSIGN_OR_RETURN(checksums_, PinnedArray<uint64_t>::Create(count));
  for (Lane& lane : lanes_) {
    RETURN_IF_ERROR(KvCopyStatus(cudaStreamCreateWithFlags(&lane.stream, cudaStreamNonBlocking)));
  }
  return absl::OkStatus();
}

}  // namespace

absl::StatusOr<std::unique_ptr<KvDeviceStaging>> CreateCudaDeviceStaging(ReachedKv kv,
                                                                         const KvSlots& slots) {
  BATON_CHECK(kv.block_bytes % 32 == 0 && WireBytes(kv) >= kMinChecksumBytes &&
              slots.bytes % 16 == 0)
      << kv.block_bytes << WireBytes(kv) << slots.bytes;
  auto staging = std::make_unique<CudaDeviceStaging>(std::move(kv), slots);
  RETURN_IF_ERROR(staging->Allocate());
  return staging;
}

}  // namespace baton
