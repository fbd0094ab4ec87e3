#include <algorithm>
#include <random>
#include <string>
#include <utility>

#include "absl/functional/function_ref.h"
#include "absl/strings/str_cat.h"
#include "bench/gpu_roofline/parts.h"
#include "bench/gpu_roofline/timing.h"
#include "common/check.h"
#include "common/kv_layout.h"
#include "engine/kernels/cuda/copy_rows.h"
#include "engine/kernels/cuda/embedding.h"
#include "engine/kernels/cuda/fp8.h"
#include "engine/kernels/cuda/quantize_rows.h"
#include "engine/kernels/cuda/rms_norm.h"
#include "engine/kernels/cuda/rope_write.h"
#include "engine/kernels/cuda/silu_mul.h"

namespace baton::roofline {
namespace {

constexpr int32_t kBlockSize = 16;
constexpr double kShareOfCopy = 0.85;

using Samples = absl::StatusOr<std::vector<double>>;

// A time of one op at some number of rows; arrays of several sets lie one after another.
struct OpRun {
  const CudaContext& context;
  const Sizes& sizes;
  int32_t rows = 0;
  Work work;

  const DecoderSizes& decoder() const { return sizes.decoder; }
  int32_t Sets() const { return SetsFor(sizes, work.bytes); }
  int64_t AllRows() const { return int64_t{rows} * Sets(); }
  Samples Time(absl::FunctionRef<void(int32_t set)> launch) const {
    return TimeLaunches(context, sizes, Sets(), launch);
  }
};

// [AllRows()], each in [0, end).
std::vector<int32_t> RandomIndices(const OpRun& run, int32_t end) {
  std::mt19937_64 random(5);
  std::vector<int32_t> indices(static_cast<size_t>(run.AllRows()));
  for (int32_t& index : indices) {
    index = static_cast<int32_t>(random() % static_cast<uint64_t>(end));
  }
  return indices;
}

Samples TimeEmbedding(const OpRun& run) {
  const int64_t width = run.decoder().hidden;
  ASSIGN_OR_RETURN(const auto table, RandomBf16(run.context, 1, run.decoder().vocab, width));
  ASSIGN_OR_RETURN(const auto tokens,
                   OnDevice(run.context, RandomIndices(run, run.decoder().vocab)));
  ASSIGN_OR_RETURN(auto output,
                   DeviceArray<float>::Create(static_cast<size_t>(run.AllRows() * width)));
  return run.Time([&](int32_t set) {
    const int64_t first = int64_t{set} * run.rows;
    Embedding(run.context, {.table = table.data(),
                            .num_tokens = run.decoder().vocab,
                            .tokens = tokens.data() + first,
                            .output = output.data() + first * width,
                            .rows = run.rows,
                            .width = static_cast<int32_t>(width)});
  });
}

Samples TimeRmsNorm(const OpRun& run) {
  const int64_t width = run.decoder().hidden;
  ASSIGN_OR_RETURN(const auto input, RandomF32(run.context, 1, run.AllRows(), width));
  ASSIGN_OR_RETURN(const auto weight, RandomF32(run.context, 2, 1, width));
  ASSIGN_OR_RETURN(auto output, DeviceArray<Bf16>::Create(input.size()));
  return run.Time([&](int32_t set) {
    const int64_t first = int64_t{set} * run.rows * width;
    RmsNorm(run.context, {.input = input.data() + first,
                          .weight = weight.data(),
                          .output = output.data() + first,
                          .rows = run.rows,
                          .width = static_cast<int32_t>(width),
                          .epsilon = 1e-5f});
  });
}

// Rows of e4m3 for all sets, and of bf16, which two kernels need.
struct RoundedRows {
  DeviceArray<uint8_t> values;
  DeviceArray<float> scales;
  DeviceArray<Bf16> bf16;

  static absl::StatusOr<RoundedRows> Create(const OpRun& run, int64_t width) {
    const auto count = static_cast<size_t>(run.AllRows() * width);
    RoundedRows rows;
    ASSIGN_OR_RETURN(rows.values, DeviceArray<uint8_t>::Create(count));
    ASSIGN_OR_RETURN(rows.scales, DeviceArray<float>::Create(static_cast<size_t>(run.AllRows())));
    ASSIGN_OR_RETURN(rows.bf16, DeviceArray<Bf16>::Create(count));
    return rows;
  }
  // Those from row `first` on.
  E4m3Rows From(int64_t first, int64_t width) {
    return {.values = values.data() + first * width, .scales = scales.data() + first};
  }
  void Quantize(const OpRun& run, int64_t first, int64_t width) {
    const E4m3Rows rounded = From(first, width);
    QuantizeRows(run.context, {.input = bf16.data() + first * width,
                               .output = rounded.values,
                               .scales = rounded.scales,
                               .rows = run.rows,
                               .width = static_cast<int32_t>(width)});
  }
};

template <bool kFused>
Samples TimeRmsNormToE4m3(const OpRun& run) {
  const int64_t width = run.decoder().hidden;
  ASSIGN_OR_RETURN(const auto input, RandomF32(run.context, 1, run.AllRows(), width));
  ASSIGN_OR_RETURN(const auto weight, RandomF32(run.context, 2, 1, width));
  ASSIGN_OR_RETURN(RoundedRows output, RoundedRows::Create(run, width));
  return run.Time([&](int32_t set) {
    const int64_t first = int64_t{set} * run.rows;
    const RmsNormArgs args{.input = input.data() + first * width,
                           .weight = weight.data(),
                           .output = output.bf16.data() + first * width,
                           .rows = run.rows,
                           .width = static_cast<int32_t>(width),
                           .epsilon = 1e-5f};
    if constexpr (kFused) return RmsNormToE4m3(run.context, args, output.From(first, width));
    RmsNorm(run.context, args);
    output.Quantize(run, first, width);
  });
}

template <bool kFused>
Samples TimeSiluMulToE4m3(const OpRun& run) {
  const int64_t width = run.decoder().intermediate;
  ASSIGN_OR_RETURN(const auto input, RandomBf16(run.context, 1, run.AllRows(), 2 * width));
  ASSIGN_OR_RETURN(RoundedRows output, RoundedRows::Create(run, width));
  return run.Time([&](int32_t set) {
    const int64_t first = int64_t{set} * run.rows;
    const CudaSiluMulArgs args{.input = input.data() + 2 * first * width,
                               .output = output.bf16.data() + first * width,
                               .rows = run.rows,
                               .width = static_cast<int32_t>(width)};
    if constexpr (kFused) return SiluMulToE4m3(run.context, args, output.From(first, width));
    SiluMul(run.context, args);
    output.Quantize(run, first, width);
  });
}

// Every row its own slot; rows of a set are one sequence.
Samples TimeRopeWrite(const OpRun& run) {
  const DecoderSizes& d = run.decoder();
  const KvLayout layout{.num_layers = 1,
                        .num_kv_heads = d.kv_heads,
                        .head_dim = d.head_dim,
                        .block_size = kBlockSize};
  const auto width = static_cast<int64_t>(d.QSize() + 2 * d.KvSize());
  const auto blocks = BlocksForTokens(static_cast<int32_t>(run.AllRows()), kBlockSize);
  std::vector<int32_t> positions;
  std::vector<KvSlot> slots;
  for (int32_t row = 0; row < run.AllRows(); ++row) {
    positions.push_back(row % run.rows);
    slots.push_back({.block = BlockId(row / kBlockSize), .offset = row % kBlockSize});
  }
  const std::vector<float> frequencies(static_cast<size_t>(d.head_dim) / 2, 0.125f);
  ASSIGN_OR_RETURN(auto qkv, RandomBf16(run.context, 1, run.AllRows(), width));
  ASSIGN_OR_RETURN(const auto device_positions, OnDevice(run.context, positions));
  ASSIGN_OR_RETURN(const auto device_slots, OnDevice(run.context, slots));
  ASSIGN_OR_RETURN(const auto device_frequencies, OnDevice(run.context, frequencies));
  ASSIGN_OR_RETURN(auto cache, DeviceArray<std::byte>::Create(
                                   static_cast<size_t>(blocks * layout.BlockBytes())));
  return run.Time([&](int32_t set) {
    const int64_t first = int64_t{set} * run.rows;
    RopeWrite(run.context, {.qkv = qkv.data() + first * width,
                            .row_stride = width,
                            .positions = device_positions.data() + first,
                            .slots = device_slots.data() + first,
                            .inverse_frequencies = device_frequencies.data(),
                            .layer = ViewKvLayer(layout, cache.data()),
                            .rows = run.rows,
                            .num_heads = d.heads});
  });
}

Samples TimeSiluMul(const OpRun& run) {
  const int64_t width = run.decoder().intermediate;
  ASSIGN_OR_RETURN(const auto input, RandomBf16(run.context, 1, run.AllRows(), 2 * width));
  ASSIGN_OR_RETURN(auto output,
                   DeviceArray<Bf16>::Create(static_cast<size_t>(run.AllRows() * width)));
  return run.Time([&](int32_t set) {
    const int64_t first = int64_t{set} * run.rows * width;
    SiluMul(run.context, {.input = input.data() + 2 * first,
                          .output = output.data() + first,
                          .rows = run.rows,
                          .width = static_cast<int32_t>(width)});
  });
}

Samples TimeGather(const OpRun& run) {
  const int64_t width = run.decoder().hidden;
  const auto row_bytes = width * static_cast<int64_t>(sizeof(float));
  std::vector<int32_t> indices(static_cast<size_t>(run.AllRows()));
  for (size_t i = 0; i < indices.size(); ++i) {  // the rows of the set, last first
    indices[i] = run.rows - 1 - static_cast<int32_t>(i % static_cast<size_t>(run.rows));
  }
  ASSIGN_OR_RETURN(const auto input, RandomF32(run.context, 1, run.AllRows(), width));
  ASSIGN_OR_RETURN(const auto device_indices, OnDevice(run.context, indices));
  ASSIGN_OR_RETURN(auto output, DeviceArray<float>::Create(input.size()));
  return run.Time([&](int32_t set) {
    const int64_t first = int64_t{set} * run.rows;
    GatherRows(run.context,
               {.input = reinterpret_cast<const std::byte*>(input.data() + first * width),
                .indices = device_indices.data() + first,
                .output = reinterpret_cast<std::byte*>(output.data() + first * width),
                .row_bytes = row_bytes,
                .rows = run.rows});
  });
}

// `rows` blocks in all layers, from the front half of the cache to the back half.
Samples TimeBlockCopies(const OpRun& run) {
  const DecoderSizes& d = run.decoder();
  const KvLayout layout{.num_layers = d.layers,
                        .num_kv_heads = d.kv_heads,
                        .head_dim = d.head_dim,
                        .block_size = kBlockSize};
  const auto all = static_cast<int32_t>(run.AllRows());
  const int64_t layer_numbers = 2 * all * layout.BlockBytes() / 2;  // of two bytes
  ASSIGN_OR_RETURN(auto cache, RandomBf16(run.context, 1, d.layers, layer_numbers));
  std::vector<std::byte*> layers;
  for (int32_t layer = 0; layer < d.layers; ++layer) {
    layers.push_back(reinterpret_cast<std::byte*>(cache.data() + layer * layer_numbers));
  }
  std::vector<KvBlockCopy> copies;
  for (int32_t i = 0; i < all; ++i) copies.push_back({BlockId(i), BlockId(all + i)});
  ASSIGN_OR_RETURN(const auto device_layers, OnDevice(run.context, layers));
  ASSIGN_OR_RETURN(const auto device_copies, OnDevice(run.context, copies));
  return run.Time([&](int32_t set) {
    CopyBlocks(run.context, {.layers = device_layers.data(),
                             .copies = device_copies.data() + int64_t{set} * run.rows,
                             .block_bytes = layout.BlockBytes(),
                             .num_layers = d.layers,
                             .num_copies = run.rows});
  });
}

}  // namespace

absl::Status MeasureRowOps(const CudaContext& context, const Sizes& sizes, Recorder* recorder) {
  const DecoderSizes& d = sizes.decoder;
  const auto add = [&](Row row, int32_t rows, Samples (*time)(const OpRun&)) {
    const OpRun run{.context = context, .sizes = sizes, .rows = rows, .work = row.work};
    recorder->Add(std::move(row), time(run));
  };
  const auto measure = [&](std::string name, int32_t rows, bool has_target, const Work& work,
                           Samples (*time)(const OpRun&)) {
    add({.name = std::move(name), .work = work, .target_share = has_target ? kShareOfCopy : 0},
        rows, time);
  };
  for (const int32_t rows : sizes.op_rows) {
    const bool has_target = rows >= sizes.rows_of_target;
    const std::string suffix = absl::StrCat(", ", rows, " rows");
    measure("embedding" + suffix, rows, has_target, CountEmbedding(rows, d.hidden), TimeEmbedding);
    measure("RMSNorm" + suffix, rows, has_target, CountRmsNorm(rows, d.hidden), TimeRmsNorm);
    measure("RoPE and KV write" + suffix, rows, has_target,
            CountRopeWrite(rows, d.heads, d.kv_heads, d.head_dim), TimeRopeWrite);
    measure("SwiGLU" + suffix, rows, has_target, CountSiluMul(rows, d.intermediate), TimeSiluMul);
    const Work norm = CountRmsNormToE4m3(rows, d.hidden);
    const std::string norm_name = "RMSNorm to e4m3" + suffix;
    add({.name = norm_name, .work = norm, .variant = "one kernel"}, rows, TimeRmsNormToE4m3<true>);
    add({.name = norm_name, .work = norm, .variant = "two kernels"}, rows,
        TimeRmsNormToE4m3<false>);
    const Work gated = CountSiluMulToE4m3(rows, d.intermediate);
    const std::string gated_name = "SwiGLU to e4m3" + suffix;
    add({.name = gated_name, .work = gated, .variant = "one kernel"}, rows,
        TimeSiluMulToE4m3<true>);
    add({.name = gated_name, .work = gated, .variant = "two kernels"}, rows,
        TimeSiluMulToE4m3<false>);
    measure("gather" + suffix, rows, has_target, CountCopy(kF32Bytes * rows * d.hidden),
            TimeGather);
  }
  for (const int32_t blocks : sizes.copied_blocks) {
    measure(absl::StrCat("KV copies in all layers, ", blocks, " blocks"), blocks,
            /*has_target=*/true, CountCopy(blocks * kBlockSize * d.KvBytesPerToken()),
            TimeBlockCopies);
  }
  return context.status();
}

}  // namespace baton::roofline
