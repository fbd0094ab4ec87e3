#include "engine/model/cuda/cuda_kv_staging.h"

#include <cuda_runtime.h>

#include <deque>
#include <span>
#include <utility>

#include "common/check.h"
#include "engine/kernels/cuda/device_array.h"
#include "engine/kernels/cuda/event.h"
#include "engine/kernels/cuda/transport_memory.h"
#include "engine/model/cuda/cuda_device_staging.h"
#include "engine/model/cuda/kv_copy_status.h"

namespace baton {
namespace {

// The copies from and to one device, which does one after the other. Move-only.
class PartStream {
 public:
  static absl::StatusOr<PartStream> Create(const CudaKvPart& part) {
    RETURN_IF_ERROR(KvCopyStatus(cudaSetDevice(part.device)));
    PartStream made(part);
    RETURN_IF_ERROR(KvCopyStatus(cudaStreamCreateWithFlags(&made.stream_, cudaStreamNonBlocking)));
    return made;
  }
  PartStream(PartStream&& other) noexcept
      : part_(other.part_),
        stream_(std::exchange(other.stream_, nullptr)),
        events_(std::move(other.events_)) {}
  PartStream& operator=(PartStream&&) = delete;
  ~PartStream() {
    if (stream_ != nullptr) cudaStreamDestroy(stream_);
  }

  const KvRegion& region() const { return *part_.region; }
  cudaStream_t stream() const { return stream_; }
  cudaError_t Wait() const { return cudaStreamSynchronize(stream_); }

  // `ended` is then behind all that was enqueued. Events that are given back are used again.
  cudaError_t Record(CudaEvent* ended) {
    cudaError_t error = cudaSuccess;
    if (!events_.empty()) {
      *ended = std::move(events_.back());
      events_.pop_back();
    } else {
      error = cudaSetDevice(part_.device);  // that of a new event
      if (error == cudaSuccess) error = ended->Make();
    }
    return error == cudaSuccess ? ended->Record(stream_) : error;
  }
  void GiveBack(CudaEvent event) { events_.push_back(std::move(event)); }

 private:
  explicit PartStream(const CudaKvPart& part) : part_(part) {}

  const CudaKvPart part_;
  cudaStream_t stream_ = nullptr;
  std::vector<CudaEvent> events_;
};

class CudaKvStaging final : public KvStaging {
 public:
  CudaKvStaging(std::vector<PartStream> parts, size_t copies, PinnedArray<std::byte> memory)
      : parts_(std::move(parts)), copies_of_head_(copies), memory_(std::move(memory)) {}
  ~CudaKvStaging() override { Settle(); }

  std::span<std::byte> memory() override { return {memory_.data(), memory_.size()}; }

  void CopyOut(int32_t layer, std::span<const BlockId> blocks, std::byte* to,
               DoneFn done) override {
    Start(Way::kOut, layer, blocks, to, std::move(done));
  }
  void CopyIn(int32_t layer, const std::byte* from, std::span<const BlockId> blocks,
              DoneFn done) override {
    Start(Way::kIn, layer, blocks, memory_.data() + (from - memory_.data()), std::move(done));
  }

  // Each stream does one after the other, so they end in order.
  bool Progress() override {
    bool any = false;
    for (; !copies_.empty(); any = true) {
      const cudaError_t state = StateOf(copies_.front());
      if (state == cudaErrorNotReady) break;
      // Other parts of it may be under way, and runs of one that could not be started as a whole.
      if (state != cudaSuccess) WaitForParts();
      EndFirst(state);
    }
    return any;
  }
  void Settle() override {
    if (copies_.empty()) return;
    const cudaError_t state = WaitForParts();
    while (!copies_.empty()) EndFirst(state);
  }
  bool idle() const override { return copies_.empty(); }

 private:
  enum class Way { kOut, kIn };
  struct Copy {
    std::vector<CudaEvent> ended;  // as parts_; fewer where not all could be started
    DoneFn done;
    cudaError_t error = cudaSuccess;  // of starting it
  };

  void Start(Way way, int32_t layer, std::span<const BlockId> blocks, std::byte* host,
             DoneFn done) {
    Copy started{.done = std::move(done)};
    for (size_t part = 0; part < parts_.size() && started.error == cudaSuccess; ++part) {
      started.error = StartPart(way, part, layer, blocks, host);
      if (started.error != cudaSuccess) break;
      started.error = parts_[part].Record(&started.ended.emplace_back());
    }
    copies_.push_back(std::move(started));
  }

  cudaError_t StartPart(Way way, size_t part, int32_t layer, std::span<const BlockId> blocks,
                        std::byte* host) {
    if (way == Way::kOut && part % copies_of_head_ != 0) return cudaSuccess;  // another has it
    const KvRegion& region = parts_[part].region();
    const size_t wire_bytes = static_cast<size_t>(region.layout.BlockBytes()) * PiecesOnWire();
    cudaError_t error = cudaSuccess;
    for (size_t begin = 0; begin < blocks.size() && error == cudaSuccess;) {
      size_t end = begin + 1;
      while (end < blocks.size() && blocks[end].value() == blocks[end - 1].value() + 1) ++end;
      error = CopyRun(way, part, region.Block(layer, blocks[begin]), host + begin * wire_bytes,
                      end - begin);
      begin = end;
    }
    return error;
  }

  // Of the keys of a block of all heads, and of its values.
  size_t PiecesOnWire() const { return parts_.size() / copies_of_head_; }

  // Between neighbouring blocks of a part and their places in blocks of all heads: of a block's
  // keys and of its values the parts have one piece each, one part's after the other's.
  cudaError_t CopyRun(Way way, size_t part, std::byte* run, std::byte* host, size_t blocks) {
    const auto piece = static_cast<size_t>(parts_[part].region().layout.BlockBytes()) / 2;
    const size_t pieces = 2 * blocks;
    const size_t host_pitch = piece * PiecesOnWire();
    std::byte* first = host + part / copies_of_head_ * piece;
    const cudaStream_t stream = parts_[part].stream();
    const bool out = way == Way::kOut;
    if (PiecesOnWire() == 1) {
      return cudaMemcpyAsync(out ? first : run, out ? run : first, pieces * piece,
                             cudaMemcpyDefault, stream);
    }
    return out ? cudaMemcpy2DAsync(first, host_pitch, run, piece, piece, pieces, cudaMemcpyDefault,
                                   stream)
               : cudaMemcpy2DAsync(run, piece, first, host_pitch, piece, pieces, cudaMemcpyDefault,
                                   stream);
  }

  // cudaErrorNotReady: nothing is wrong, and not all of it is there.
  static cudaError_t StateOf(const Copy& copy) {
    cudaError_t all = copy.error;
    for (const CudaEvent& ended : copy.ended) {
      const cudaError_t state =
          all == cudaSuccess || all == cudaErrorNotReady ? ended.Query() : all;
      if (state != cudaSuccess) all = state;
    }
    return all;
  }
  // The first error of what came of all that was started.
  cudaError_t WaitForParts() {
    cudaError_t first = cudaSuccess;
    for (const PartStream& part : parts_) {
      const cudaError_t state = part.Wait();
      if (first == cudaSuccess) first = state;
    }
    return first;
  }
  // `state`: what came of the streams up to it.
  void EndFirst(cudaError_t state) {
    Copy ended = std::move(copies_.front());
    copies_.pop_front();
    if (ended.error == cudaSuccess) {
      for (size_t part = 0; part < parts_.size(); ++part) {
        parts_[part].GiveBack(std::move(ended.ended[part]));
      }
    }
    ended.done(KvCopyStatus(ended.error != cudaSuccess ? ended.error : state));
  }

  std::vector<PartStream> parts_;
  const size_t copies_of_head_;
  PinnedArray<std::byte> memory_;
  std::deque<Copy> copies_;  // under way, in order
};

}  // namespace

CudaKvStagingFactory::CudaKvStagingFactory(std::vector<CudaKvPart> parts, int32_t copies)
    : parts_(std::move(parts)), copies_(copies) {
  BATON_CHECK(!parts_.empty() && copies > 0 && parts_.size() % static_cast<size_t>(copies) == 0)
      << parts_.size() << copies;
}

absl::StatusOr<std::unique_ptr<KvStaging>> CudaKvStagingFactory::Create(size_t bytes) {
  std::vector<PartStream> streams;
  for (const CudaKvPart& part : parts_) {
    ASSIGN_OR_RETURN(PartStream stream, PartStream::Create(part));
    streams.push_back(std::move(stream));
  }
  ASSIGN_OR_RETURN(PinnedArray<std::byte> memory, PinnedArray<std::byte>::Create(bytes));
  return std::make_unique<CudaKvStaging>(std::move(streams), static_cast<size_t>(copies_),
                                         std::move(memory));
}

absl::StatusOr<std::vector<ReachedKvPart>> CudaKvStagingFactory::Reach() const {
  std::vector<ReachedKvPart> reached;
  for (const CudaKvPart& part : parts_) {
    ASSIGN_OR_RETURN(ReachedKvPart opened, ReachedKvPart::Open(parts_[0].device, part));
    reached.push_back(std::move(opened));
  }
  return reached;
}

absl::StatusOr<std::unique_ptr<KvDeviceStaging>> CudaKvStagingFactory::CreateOnDevice(
    const KvSlots& slots) {
  ASSIGN_OR_RETURN(std::vector<ReachedKvPart> parts, Reach());
  return CreateCudaDeviceStaging({.parts = std::move(parts),
                                  .copies = static_cast<size_t>(copies_),
                                  .block_bytes = parts_[0].region->layout.BlockBytes()},
                                 slots);
}

absl::StatusOr<MemoryKind> CudaKvStagingFactory::device_memory() const {
  ASSIGN_OR_RETURN(const std::vector<ReachedKvPart> parts, Reach());
  for (const ReachedKvPart& part : parts) RETURN_IF_ERROR(part.Check());
  return TransportMemoryKind::kKind;
}

}  // namespace baton
