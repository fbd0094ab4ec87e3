#include "bench/gpu_roofline/flashinfer/workspace.h"

#include "bench/gpu_roofline/timing.h"
#include "common/check.h"

namespace baton::roofline {
namespace {

// More than FlashInfer's own callers give it: it says so where a plan has no room.
constexpr size_t kPartialBytes = size_t{512} << 20;
constexpr size_t kScheduleBytes = size_t{16} << 20;

}  // namespace

absl::StatusOr<FlashInferWorkspace> FlashInferWorkspace::Create(const CudaContext& context,
                                                                const FlashInferBatch& batch) {
  FlashInferWorkspace workspace{.batch = batch};
  for (int32_t i = 0; i <= batch.sequences; ++i) {
    workspace.row_offsets.push_back(i * batch.tokens);
    workspace.page_offsets.push_back(i * batch.pages_per_sequence());
  }
  const auto sequences = static_cast<size_t>(batch.sequences);
  workspace.lengths.assign(sequences, batch.positions);
  const std::vector<int32_t> last_page_lengths(sequences,
                                               (batch.positions - 1) % batch.page_size + 1);
  ASSIGN_OR_RETURN(workspace.device_row_offsets, OnDevice(context, workspace.row_offsets));
  ASSIGN_OR_RETURN(workspace.device_page_offsets, OnDevice(context, workspace.page_offsets));
  ASSIGN_OR_RETURN(workspace.last_page_lengths, OnDevice(context, last_page_lengths));
  ASSIGN_OR_RETURN(workspace.partial_results, DeviceArray<std::byte>::Create(kPartialBytes));
  ASSIGN_OR_RETURN(workspace.schedule, DeviceArray<std::byte>::Create(kScheduleBytes));
  ASSIGN_OR_RETURN(workspace.host_schedule, PinnedArray<std::byte>::Create(kScheduleBytes));
  RETURN_IF_ERROR(context.Synchronize());  // before what was uploaded goes
  return workspace;
}

}  // namespace baton::roofline
