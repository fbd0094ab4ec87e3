#include "kvtransfer/block_access.h"

#include <utility>

#include "common/check.h"
#include "common/kv_staging.h"
#include "kvtransfer/region_spans.h"

namespace baton {
namespace {

class HostBlocks final : public BlockAccess {
 public:
  explicit HostBlocks(const KvMemory& memory) : spans_(memory) {}

  void Read(int32_t layer, std::span<const BlockId> blocks, ReadFn ready) override {
    ready(View{.spans = spans_.Of(layer, blocks)});
  }
  View Prepare(int32_t layer, std::span<const BlockId> blocks) override {
    return {.spans = spans_.Of(layer, blocks)};
  }
  void Write(const View&, int32_t, std::span<const BlockId>, DoneFn done) override {
    done(absl::OkStatus());
  }
  void Release(const View&) override {}
  bool Progress() override { return false; }
  void Settle() override {}
  bool idle() const override { return true; }
  std::vector<MemorySpan> Memory() const override { return spans_.All(); }

 private:
  const RegionSpans spans_;
};

// Pinned memory is divided into slots of one view each.
class StagedBlocks final : public BlockAccess {
 public:
  StagedBlocks(std::unique_ptr<KvStaging> staging, int64_t block_bytes, const Limits& limits)
      : block_bytes_(block_bytes), limits_(limits), staging_(std::move(staging)) {
    for (int32_t slot = limits.views; slot > 0; --slot) free_.push_back(slot - 1);
  }
  ~StagedBlocks() override { Settle(); }

  void Read(int32_t layer, std::span<const BlockId> blocks, ReadFn ready) override {
    const View view = Prepare(layer, blocks);
    staging_->CopyOut(layer, blocks, view.spans[0].data,
                      [this, view, ready = std::move(ready)](absl::Status status) {
                        if (status.ok()) return ready(view);
                        Release(view);
                        ready(std::move(status));
                      });
  }
  View Prepare(int32_t, std::span<const BlockId> blocks) override {
    const auto bytes = static_cast<int64_t>(blocks.size()) * block_bytes_;
    BATON_CHECK(!free_.empty() && bytes <= limits_.view_bytes) << free_.size() << bytes;
    const int32_t slot = free_.back();
    free_.pop_back();
    std::byte* data = staging_->memory().data() + slot * limits_.view_bytes;
    return {.spans = {{data, static_cast<size_t>(bytes)}}, .slot = slot};
  }
  void Write(const View& view, int32_t layer, std::span<const BlockId> blocks,
             DoneFn done) override {
    staging_->CopyIn(layer, view.spans[0].data, blocks, std::move(done));
  }
  void Release(const View& view) override { free_.push_back(view.slot); }
  bool Progress() override { return staging_->Progress(); }
  void Settle() override { staging_->Settle(); }
  bool idle() const override { return staging_->idle(); }
  std::vector<MemorySpan> Memory() const override {
    const std::span<std::byte> memory = staging_->memory();
    return {{memory.data(), memory.size()}};
  }

 private:
  const int64_t block_bytes_;
  const Limits limits_;
  std::vector<int32_t> free_;  // slots
  const std::unique_ptr<KvStaging> staging_;
};

}  // namespace

absl::StatusOr<std::unique_ptr<BlockAccess>> MakeBlockAccess(const KvMemory& memory,
                                                             const BlockAccess::Limits& limits) {
  if (memory.staging == nullptr) return std::make_unique<HostBlocks>(memory);
  BATON_CHECK(memory.regions.size() == 1) << memory.regions.size();
  const auto bytes = static_cast<size_t>(limits.views * limits.view_bytes);
  ASSIGN_OR_RETURN(std::unique_ptr<KvStaging> staging, memory.staging->Create(bytes));
  return std::make_unique<StagedBlocks>(std::move(staging), memory.layout.BlockBytes(), limits);
}

}  // namespace baton
