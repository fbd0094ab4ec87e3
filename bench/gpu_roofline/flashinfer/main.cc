// FlashInfer's attention at the shapes of gpu_roofline, timed as ours is. Called by
// ../../gpu_roofline.sh where tools/flashinfer_peer.sh has built it.
//
//   gpu_roofline_flashinfer --sizes FILE --out FILE
//
// --sizes: of `gpu_roofline sizes`. --out: a part as ../row_json.h has it, written again after each
// row. Before a kernel is timed its output is held against ours; what differs, and what FlashInfer
// cannot do, is the row's error. Status: 0; 1: it could not go on; 2: wrong arguments; 4: no GPU.
#include <cstdio>
#include <fstream>
#include <iterator>
#include <string>
#include <vector>

#include "absl/strings/str_cat.h"
#include "bench/gpu_roofline/attention_data.h"
#include "bench/gpu_roofline/flashinfer/kernels.h"
#include "bench/gpu_roofline/recorder.h"
#include "bench/gpu_roofline/row_error.h"
#include "bench/gpu_roofline/timing.h"
#include "common/check.h"

namespace baton::roofline {
namespace {

constexpr int kFailed = 1;
constexpr int kWrongArguments = 2;
constexpr int kNoGpu = 4;

constexpr double kTolerance = 0.02;  // of one head's output, see WorstRowError

using PlanFunction = PlannedFlashInfer (*)(const CudaContext&, const FlashInferBatch&);
struct Way {
  const char* name;
  bool for_steps, for_prompts;
  PlanFunction heads_of_64, heads_of_128, heads_of_256;
};
// What is least likely to break the device first: its error ends the part.
constexpr Way kWays[] = {
    {"CUDA cores", true, false, PlanCudaCores<64>, PlanCudaCores<128>, PlanCudaCores<256>},
    {"FA2", true, true, PlanFa2<64>, PlanFa2<128>, PlanFa2<256>},
    {"FA3", false, true, PlanFa3<64>, PlanFa3<128>, PlanFa3<256>}};

PlannedFlashInfer Plan(const Way& way, const CudaContext& context, const FlashInferBatch& batch) {
  switch (batch.head_dim) {
    case 64:
      return way.heads_of_64(context, batch);
    case 128:
      return way.heads_of_128(context, batch);
    case 256:
      return way.heads_of_256(context, batch);
  }
  return absl::UnimplementedError(
      absl::StrCat("FlashInfer has no kernel for heads of ", batch.head_dim));
}

absl::StatusOr<std::vector<Bf16>> OutputOf(const CudaContext& context, const AttentionData& data) {
  std::vector<Bf16> output(data.output.size());
  Download(context, data.output, output);
  RETURN_IF_ERROR(context.Synchronize());
  return output;
}

// Both on the first set. What nobody wrote is NaN.
absl::Status HoldAgainstOurs(const CudaContext& context, const FlashInferKernel& kernel,
                             const FlashInferArgs& args, AttentionData* data) {
  RunAttention(context, data, {}, /*set=*/0);
  ASSIGN_OR_RETURN(const std::vector<Bf16> ours, OutputOf(context, *data));
  context.Note(cudaMemsetAsync(data->output.data(), 0xff, data->output.bytes(), context.stream()),
               "clear output");
  RETURN_IF_ERROR(kernel.Run(context, args));
  ASSIGN_OR_RETURN(const std::vector<Bf16> theirs, OutputOf(context, *data));
  const double error = WorstRowError(ours, theirs, static_cast<size_t>(data->shape.head_dim));
  std::printf("%s: at most %.4f from ours\n", data->shape.name.c_str(), error);
  if (error < kTolerance) return absl::OkStatus();
  return absl::InternalError(absl::StrCat("a head's output differs from ours by ", error));
}

absl::StatusOr<std::vector<double>> Time(const Way& way, const CudaContext& context,
                                         const Sizes& sizes, const AttentionShape& shape) {
  ASSIGN_OR_RETURN(AttentionData data, MakeAttentionData(context, sizes, shape));
  const FlashInferBatch batch{.sequences = shape.sequences,
                              .tokens = shape.tokens,
                              .positions = data.positions(),
                              .heads = shape.heads,
                              .kv_heads = shape.kv_heads,
                              .head_dim = shape.head_dim,
                              .page_size = data.layout.block_size};
  ASSIGN_OR_RETURN(const std::unique_ptr<FlashInferKernel> kernel, Plan(way, context, batch));
  const int64_t block_numbers = data.layout.BlockBytes() / int64_t{sizeof(Bf16)};
  FlashInferArgs args{.query_stride = data.row_numbers,
                      .keys = data.cache.data(),
                      .values = data.cache.data() + block_numbers / 2,
                      .page_stride = block_numbers,
                      .output = data.output.data(),
                      .scale = data.scale()};
  const auto take_set = [&](int32_t set) {
    args.queries = data.QueriesOf(set);
    args.pages = data.block_tables.data() + int64_t{set} * data.blocks_per_set;
  };
  take_set(0);
  RETURN_IF_ERROR(HoldAgainstOurs(context, *kernel, args, &data));
  return TimeLaunches(context, sizes, data.sets, [&](int32_t set) {
    take_set(set);
    context.Note(kernel->Run(context, args));
  });
}

absl::Status MeasureAll(const CudaContext& context, const Sizes& sizes, Recorder* recorder) {
  for (const Way& way : kWays) {
    for (const AttentionShape& shape : sizes.attention) {
      if (!(shape.tokens == 1 ? way.for_steps : way.for_prompts)) continue;
      recorder->Add({.name = shape.name, .variant = way.name}, Time(way, context, sizes, shape));
      RETURN_IF_ERROR(context.status());
    }
  }
  return absl::OkStatus();
}

absl::StatusOr<Sizes> ReadSizes(const std::string& path) {
  std::ifstream file(path, std::ios::binary);
  if (!file) return absl::NotFoundError(absl::StrCat("cannot read ", path));
  return AttentionSizesFromJson({std::istreambuf_iterator<char>(file), {}});
}

int Fail(const absl::Status& status, int code = kFailed) {
  std::fprintf(stderr, "gpu_roofline_flashinfer: %s\n", status.ToString().c_str());
  return code;
}

int Main(const std::vector<std::string>& words) {
  if (words.size() != 4 || words[0] != "--sizes" || words[2] != "--out") {
    return Fail(absl::InvalidArgumentError("allowed: --sizes FILE --out FILE"), kWrongArguments);
  }
  const absl::StatusOr<Sizes> sizes = ReadSizes(words[1]);
  if (!sizes.ok()) return Fail(sizes.status());
  const absl::StatusOr<std::unique_ptr<CudaContext>> context = CudaContext::Create(0);
  if (!context.ok()) {
    return Fail(context.status(), absl::IsNotFound(context.status()) ? kNoGpu : kFailed);
  }
  Recorder recorder({.name = kFlashInferPart,
                     .device = (*context)->info().name,
                     .note = "FlashInfer " BATON_FLASHINFER_VERSION},
                    words[3]);
  absl::Status status = WarmUp(**context, *sizes);
  if (status.ok()) status = MeasureAll(**context, *sizes, &recorder);
  const absl::Status written = recorder.Finish(status);
  if (!status.ok()) return Fail(status);
  return written.ok() ? 0 : Fail(written);
}

}  // namespace
}  // namespace baton::roofline

int main(int argc, char** argv) { return baton::roofline::Main({argv + 1, argv + argc}); }
