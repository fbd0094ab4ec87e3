// The op functions: each splits its work over the pool and calls the table's entry.
#include <algorithm>
#include <cmath>

#include "common/check.h"
#include "engine/kernels/cpu/tables.h"
#include "engine/kernels/embedding.h"
#include "engine/kernels/kernel_table.h"
#include "engine/kernels/kv_write.h"
#include "engine/kernels/linear.h"
#include "engine/kernels/op_times.h"
#include "engine/kernels/paged_attention.h"
#include "engine/kernels/quantize.h"
#include "engine/kernels/rms_norm.h"
#include "engine/kernels/rope.h"

namespace baton {
namespace {

// Work below this many numbers a thread is not worth waking another thread for.
constexpr int64_t kMinNumbersPerTask = int64_t{16} * 1024;

// Calls fn(begin, end) over ranges that cover [0, rows), in parallel where it pays.
template <typename Fn>
void SplitRows(const OpContext& context, int32_t rows, int64_t numbers_per_row, const Fn& fn) {
  if (rows == 0) return;
  const int64_t worth = rows * numbers_per_row / kMinNumbersPerTask;
  const auto tasks = static_cast<int32_t>(std::clamp<int64_t>(
      worth, 1, std::min<int64_t>(rows, int64_t{4} * context.pool.num_threads())));
  if (tasks <= 1 || context.pool.num_threads() == 1) {
    fn(0, rows);
    return;
  }
  context.pool.RunInShares(tasks, [&](int32_t task, int32_t) {
    fn(static_cast<int32_t>(int64_t{rows} * task / tasks),
       static_cast<int32_t>(int64_t{rows} * (task + 1) / tasks));
  });
}

const KvOps& KvOpsOf(const OpContext& context, const KvLayerView& layer) {
  return layer.dtype == KvDtype::kInt8 ? context.kernels.int8_kv : context.kernels.kv;
}

// Rows of input whose share of k stays in the L2 cache beside a panel's.
constexpr int32_t kRowsPerTile = 192;
constexpr int32_t kShareOfK = 2048;
constexpr int64_t kInputInCache = 512 << 10;  // bytes of input that stay there whole
// Enough that the input is seldom read again, few enough that their sums stay there too.
constexpr int32_t kPanelsPerShare = 8;

}  // namespace

const KernelTable& GetKernels(Isa isa, bool f32) {
  switch (isa) {
    case Isa::kAvx2:
      return f32 ? kAvx2F32Kernels : kAvx2Kernels;
    case Isa::kAvx512:
      return f32 ? kAvx512F32Kernels : kAvx512Kernels;
    case Isa::kAvx512Bf16:
      break;
  }
  return f32 ? kAvx512F32Kernels : kAvx512Bf16Kernels;
}

void RmsNorm(const OpContext& context, const RmsNormArgs& args) {
  const OpTimer timer(context.times, OpKind::kNorm);
  SplitRows(context, args.rows, args.width,
            [&](int32_t begin, int32_t end) { context.kernels.rms_norm(args, begin, end); });
}

void HeadNorm(const OpContext& context, const HeadNormArgs& args) {
  const OpTimer timer(context.times, OpKind::kNorm);
  SplitRows(context, args.rows, int64_t{args.num_heads} * args.head_dim,
            [&](int32_t begin, int32_t end) { context.kernels.head_norm(args, begin, end); });
}

void Rope(const OpContext& context, const RopeArgs& args) {
  const OpTimer timer(context.times, OpKind::kRope);
  SplitRows(context, args.rows, int64_t{args.num_heads} * args.head_dim,
            [&](int32_t begin, int32_t end) { context.kernels.rope(args, begin, end); });
}

void RopeAngles(const OpContext& context, std::span<const int32_t> positions,
                std::span<const float> inverse_frequencies, float* cosines, float* sines) {
  const OpTimer timer(context.times, OpKind::kRope);
  for (const int32_t position : positions) {
    for (const float frequency : inverse_frequencies) {
      const float angle = static_cast<float>(position) * frequency;
      *cosines++ = std::cos(angle);
      *sines++ = std::sin(angle);
    }
  }
}

KvLayerView ViewKvLayer(const KvLayout& layout, std::byte* layer) {
  return {.base = layer,
          .num_kv_heads = layout.num_kv_heads,
          .block_size = layout.block_size,
          .head_dim = layout.head_dim,
          .dtype = layout.dtype,
          .row_bytes = layout.RowBytes(),
          .block_bytes = layout.BlockBytes()};
}

void KvWrite(const OpContext& context, const KvWriteArgs& args) {
  const OpTimer timer(context.times, OpKind::kKvWrite);
  const KvOps& ops = KvOpsOf(context, args.layer);
  SplitRows(context, args.rows, int64_t{2} * args.layer.num_kv_heads * args.layer.head_dim,
            [&](int32_t begin, int32_t end) { ops.write(args, begin, end); });
}

namespace {

// The input in the scratch, quantized.
QuantizedRows QuantizeInput(const OpContext& context, const LinearArgs& args) {
  const int32_t k = args.weights->k();
  const auto groups = static_cast<size_t>(NumQuantGroups(k));
  const size_t all = static_cast<size_t>(args.rows) * groups;
  args.scratch->Reserve(all * (kQuantGroup + sizeof(float) + sizeof(int32_t)));
  auto* quants = args.scratch->As<int8_t>();
  auto* scales = reinterpret_cast<float*>(quants + all * kQuantGroup);
  auto* sums = reinterpret_cast<int32_t*>(scales + all);
  const QuantizeArgs quantize{.input = args.input,
                              .quants = quants,
                              .scales = scales,
                              .sums = sums,
                              .rows = args.rows,
                              .k = k};
  SplitRows(context, args.rows, int64_t{2} * k,
            [&](int32_t begin, int32_t end) { context.kernels.quantize(quantize, begin, end); });
  return {.quants = quants, .scales = scales, .sums = sums, .groups = static_cast<int32_t>(groups)};
}

// Room in each thread's scratch for the sums of a tile that takes k in shares.
void ReserveSums(const OpContext& context, const LinearArgs& args) {
  if (args.weights->k() <= kShareOfK) return;
  const int32_t rows = std::min(args.rows, kRowsPerTile);
  const int32_t columns = kPanelsPerShare * args.weights->format().panel_columns;
  context.pool.ReserveScratch(static_cast<size_t>(rows) * static_cast<size_t>(columns) *
                              sizeof(float));
}

// Decides how the tile takes k.
void ShareK(const OpContext& context, const LinearArgs& args, int32_t thread, LinearTile* tile) {
  const int32_t k = args.weights->k();
  const int64_t input_bytes =
      int64_t{tile->row_end - tile->row_begin} * k * ActivationBytes(context.kernels.activation);
  tile->share_of_k = k;
  if (k <= kShareOfK || input_bytes <= kInputInCache) return;
  tile->share_of_k = kShareOfK;
  tile->panels_per_share = kPanelsPerShare;
  tile->sums = reinterpret_cast<float*>(context.pool.Scratch(thread));
}

}  // namespace

void Linear(const OpContext& context, const LinearArgs& args) {
  const OpTimer timer(context.times, OpKind::kLinear);
  const PackedMatrix& weights = *args.weights;
  BATON_CHECK(weights.k() % 2 == 0) << "k=" << weights.k();
  BATON_CHECK(args.epilogue != Epilogue::kSiluMul || weights.n() % 2 == 0) << "n=" << weights.n();
  if (args.rows == 0) return;
  const bool quantized = IsQuantized(weights.format().element);
  const QuantizedRows input = quantized ? QuantizeInput(context, args) : QuantizedRows{};
  if (!quantized) ReserveSums(context, args);
  const int32_t row_tiles = (args.rows + kRowsPerTile - 1) / kRowsPerTile;
  const int32_t threads = context.pool.num_threads();
  // Enough units that threads finish together; few enough that each is worth taking.
  const int32_t panels_per_unit =
      std::clamp(weights.num_panels() * row_tiles / (threads * 8), 1, weights.num_panels());
  const int32_t panel_units = (weights.num_panels() + panels_per_unit - 1) / panels_per_unit;
  const int64_t numbers = int64_t{weights.n()} * weights.k();
  const auto run = [&](int32_t unit, int32_t thread) {
    const int32_t row_begin = unit / panel_units * kRowsPerTile;
    const int32_t panel_begin = unit % panel_units * panels_per_unit;
    LinearTile tile{.row_begin = row_begin,
                    .row_end = std::min(args.rows, row_begin + kRowsPerTile),
                    .panel_begin = panel_begin,
                    .panel_end = std::min(weights.num_panels(), panel_begin + panels_per_unit)};
    if (quantized) {
      context.kernels.quantized_linear(args, input, tile);
    } else {
      ShareK(context, args, thread, &tile);
      context.kernels.linear(args, tile);
    }
  };
  const int32_t units = row_tiles * panel_units;
  if (numbers * args.rows < 2 * kMinNumbersPerTask) {
    for (int32_t unit = 0; unit < units; ++unit) run(unit, 0);
  } else {
    context.pool.RunInShares(units, run);
  }
}

size_t AttentionPartialBytes(int32_t num_rows, int32_t head_dim) {
  // Of a row: output, 32 elements more than head_dim at most by padding, sums and maximum; see
  // LayOutStates.
  const size_t row = static_cast<size_t>(head_dim) + 32 + 16 + 1;
  return (static_cast<size_t>(num_rows) * row * sizeof(float) + size_t{4} * 64) / 64 * 64;
}

size_t AttentionScratchBytes(int32_t head_dim) {
  // See LayOutScratch. f32 is the widest.
  const size_t padded_dim = static_cast<size_t>(head_dim) + 32;
  constexpr size_t kRows = kAttentionRows;
  constexpr size_t kTile = kAttentionTile;
  const size_t matrices = kRows * padded_dim + 3 * kTile * padded_dim + 2 * kRows * kTile;
  return matrices * sizeof(float) + size_t{16} * 64 +
         2 * AttentionPartialBytes(kAttentionRows, head_dim);
}

void PagedAttention(const OpContext& context, const AttentionArgs& args,
                    const AttentionPlan& plan) {
  const OpTimer timer(context.times, OpKind::kAttention);
  const KvOps& ops = KvOpsOf(context, args.layer);
  const size_t partial_bytes = AttentionPartialBytes(plan.rows_of_partial, args.layer.head_dim);
  std::byte* partials = nullptr;
  if (plan.num_partials > 0) {
    args.partials->Reserve(static_cast<size_t>(plan.num_partials) * partial_bytes);
    partials = args.partials->data();
  }
  const auto partial_at = [&](int32_t index) {
    return index < 0 ? nullptr : partials + static_cast<size_t>(index) * partial_bytes;
  };
  context.pool.ReserveScratch(AttentionScratchBytes(args.layer.head_dim));
  context.pool.Run(static_cast<int32_t>(plan.tasks.size()), [&](int32_t index, int32_t thread) {
    const AttentionTask& task = plan.tasks[static_cast<size_t>(index)];
    ops.attention(args, task, context.pool.Scratch(thread), partial_at(task.partial));
  });
  context.pool.Run(static_cast<int32_t>(plan.merges.size()), [&](int32_t index, int32_t thread) {
    const AttentionMerge& merge = plan.merges[static_cast<size_t>(index)];
    context.kernels.merge_attention(args, merge, context.pool.Scratch(thread),
                                    partial_at(merge.first_partial),
                                    static_cast<int64_t>(partial_bytes));
  });
}

void Embedding(const OpContext& context, const EmbeddingArgs& args) {
  const OpTimer timer(context.times, OpKind::kEmbedding);
  const int64_t width = args.table->k();
  // Reading out of panels costs about as much as moving sixteen numbers for each.
  SplitRows(context, static_cast<int32_t>(args.tokens.size()), 16 * width,
            [&](int32_t begin, int32_t end) {
              for (int32_t row = begin; row < end; ++row) {
                args.table->UnpackRow(args.tokens[static_cast<size_t>(row)],
                                      args.output + row * width);
              }
            });
}

}  // namespace baton
