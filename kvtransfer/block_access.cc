#include "kvtransfer/block_access.h"

#include <utility>

#include "common/check.h"
#include "common/kv_staging.h"
#include "kvtransfer/region_spans.h"
#include "kvtransfer/transport/checksum.h"

namespace baton {
namespace {

class HostBlocks final : public BlockAccess {
 public:
  explicit HostBlocks(const KvMemory& memory) : spans_(memory) {}

  void Read(int32_t layer, std::span<const BlockId> blocks, ReadFn ready) override {
    View view = Prepare(layer, blocks);
    view.checksum = ChecksumPieces(view.spans);
    ready(std::move(view));
  }
  View Prepare(int32_t layer, std::span<const BlockId> blocks) override {
    return {.spans = spans_.Of(layer, blocks)};
  }
  void Write(const View& view, int32_t layer, std::span<const BlockId> blocks,
             WrittenFn written) override {
    spans_.WriteCopies(layer, blocks);
    written(ChecksumPieces(view.spans));
  }
  void Release(const View&) override {}
  bool Progress() override { return false; }
  void Settle() override {}
  bool idle() const override { return true; }
  std::vector<MemorySpan> Memory() const override { return spans_.All(); }

 private:
  const RegionSpans spans_;
};

// The staging's memory is divided into slots of one view each.
class StagedBlocks final : public BlockAccess {
 public:
  // `device`: `staging` again, where its memory is the device's; else null.
  StagedBlocks(std::unique_ptr<KvStaging> staging, const KvDeviceStaging* device,
               int64_t block_bytes, const Limits& limits)
      : block_bytes_(block_bytes), limits_(limits), staging_(std::move(staging)), device_(device) {
    for (int32_t slot = limits.views; slot > 0; --slot) free_.push_back(slot - 1);
  }
  ~StagedBlocks() override { Settle(); }

  void Read(int32_t layer, std::span<const BlockId> blocks, ReadFn ready) override {
    const View prepared = Prepare(layer, blocks);
    staging_->CopyOut(layer, blocks, prepared.spans[0].data,
                      [this, prepared, ready = std::move(ready)](absl::Status status) {
                        if (!status.ok()) {
                          Release(prepared);
                          return ready(std::move(status));
                        }
                        View view = prepared;
                        view.checksum = ChecksumOf(view);
                        ready(std::move(view));
                      });
  }
  View Prepare(int32_t, std::span<const BlockId> blocks) override {
    const auto bytes = static_cast<int64_t>(blocks.size()) * block_bytes_;
    BATON_CHECK(!free_.empty() && bytes <= limits_.view_bytes) << free_.size() << bytes;
    const int32_t slot = free_.back();
    free_.pop_back();
    std::byte* data = staging_->memory().data() + slot * limits_.view_bytes;
    return {.spans = {{data, static_cast<size_t>(bytes), Kind()}}, .slot = slot};
  }
  void Write(const View& view, int32_t layer, std::span<const BlockId> blocks,
             WrittenFn written) override {
    // On the host beside the copy, on the device within it.
    const uint64_t beside = device_ != nullptr ? 0 : ChecksumOf(view);
    staging_->CopyIn(layer, view.spans[0].data, blocks,
                     [this, view, beside, written = std::move(written)](absl::Status status) {
                       if (!status.ok()) return written(std::move(status));
                       written(device_ != nullptr ? ChecksumOf(view) : beside);
                     });
  }
  void Release(const View& view) override { free_.push_back(view.slot); }
  bool Progress() override { return staging_->Progress(); }
  void Settle() override { staging_->Settle(); }
  bool idle() const override { return staging_->idle(); }
  std::vector<MemorySpan> Memory() const override {
    const std::span<std::byte> memory = staging_->memory();
    return {{memory.data(), memory.size(), Kind()}};
  }

 private:
  uint64_t ChecksumOf(const View& view) const {
    return device_ != nullptr ? device_->ChecksumOf(view.spans[0].data)
                              : ChecksumPieces(view.spans);
  }
  MemoryKind Kind() const {
    return device_ != nullptr ? device_->memory_kind() : MemoryKind::kHost;
  }

  const int64_t block_bytes_;
  const Limits limits_;
  std::vector<int32_t> free_;  // slots
  const std::unique_ptr<KvStaging> staging_;
  const KvDeviceStaging* const device_;
};

}  // namespace

absl::StatusOr<std::unique_ptr<BlockAccess>> MakeBlockAccess(const KvMemory& memory,
                                                             const BlockAccess::Limits& limits) {
  if (memory.staging == nullptr) return std::make_unique<HostBlocks>(memory);
  const int64_t block_bytes = memory.layout.BlockBytes();
  if (memory.staged_on_device) {
    const KvSlots slots{.count = limits.views, .bytes = limits.view_bytes};
    ASSIGN_OR_RETURN(auto staging, memory.staging->CreateOnDevice(slots));
    const KvDeviceStaging* device = staging.get();
    return std::make_unique<StagedBlocks>(std::move(staging), device, block_bytes, limits);
  }
  const auto bytes = static_cast<size_t>(limits.views * limits.view_bytes);
  ASSIGN_OR_RETURN(auto staging, memory.staging->Create(bytes));
  return std::make_unique<StagedBlocks>(std::move(staging), nullptr, block_bytes, limits);
}

}  // namespace baton
