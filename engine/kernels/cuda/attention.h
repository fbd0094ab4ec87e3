// Causal attention over the paged KV cache on the device: see paged_attention.h for what it
// computes, and for kAttentionTile.
//
// The result of a row depends on its own sequence alone, bit for bit: not on the batch, the
// launch's upper bounds, the chunk that the row came in, nor the block table. All kernels take keys
// in tiles of 64 absolute positions, in rising order, with the same online softmax; each range of
// positions has a softmax of its own, and those are merged in rising order.
// DecodeAttention and PrefillAttention by mma.sync use the same tensor core instructions, too, and
// give the same bits; by wgmma it may round sums of products differently. So do devices of other
// generations.
//
// Scores, softmax and sums are f32. Weights are rounded to bf16 for the product with the values,
// but not in their own sum: as with bf16 products on the CPU. A NaN or infinity in a key that a row
// sees shows in the row. What lies before the window of a sequence's first row or behind its last
// row is never read; a value (not a key) that is not finite may show in rows of the same chunk that
// do not see it, if it lies between the first row's first key and the last row's.
//
// Of the kernels' own data types: queries, cache and output are bf16, head_dim is 64, 96, 128 or
// 256, any number of heads shares a KV head. See CheckCudaAttention.
#pragma once

#include <cstddef>
#include <cstdint>

#include "absl/status/status.h"
#include "common/kv_layout.h"
#include "engine/kernels/bf16.h"
#include "engine/kernels/cuda/context.h"
#include "engine/kernels/kv_write.h"

namespace baton {

// The rows of one sequence, as the device sees it.
struct CudaSequence {
  int32_t row_begin = 0;       // its first row in the batch
  int32_t num_rows = 0;        // tokens; 0: the sequence only fills up a bucket
  int32_t start_position = 0;  // of the first row
  int32_t table_begin = 0;     // of its blocks in `block_tables`
};

// Whether prompts are for wgmma where nobody says otherwise. Not before a device has shown that it
// is right and faster: see docs/adr/0017-wgmma-attention.md.
inline constexpr bool kPrefersWgmma = false;

// Positions of a range are 2 to the power of this. Shorter ones are work for more thread blocks of
// decode, and more to merge for all: to be chosen by measurement. Each choice has bits of its own.
inline constexpr int32_t kKeyRangeLog2 = 9;
inline constexpr int32_t kMaxKeyRangeLog2 = 29;

struct CudaAttentionArgs {
  // [rows, num_heads, head_dim] rotated, device, aligned to 16 bytes; rows `row_stride` apart.
  const Bf16* queries = nullptr;
  int64_t row_stride = 0;                   // numbers, a multiple of 8
  const CudaSequence* sequences = nullptr;  // [num_sequences], device
  const int32_t* block_tables = nullptr;    // block ids of all sequences, one after another, device
  KvLayerView layer;                        // base: device, aligned to 16 bytes
  Bf16* output = nullptr;                   // [rows, num_heads, head_dim], device
  int32_t num_sequences = 0;
  int32_t num_heads = 0;  // a multiple of layer.num_kv_heads
  int32_t window = 0;     // a query sees the last `window` positions, itself included; 0: all
  float scale = 0.0f;     // of the scores, 1 / sqrt(head_dim); above 0
  int32_t key_range_log2 = kKeyRangeLog2;  // from that of kAttentionTile to kMaxKeyRangeLog2
  // PrefillAttention takes wgmma where HasWgmmaAttention, and mma.sync elsewhere.
  bool prefers_wgmma = kPrefersWgmma;
  // What shapes the launch, known on the host: upper bounds of the sequences' values. A captured
  // launch may be replayed with any sequences, tables and lengths within them.
  int32_t max_rows = 0;          // of one sequence
  int32_t max_positions = 0;     // start_position + num_rows
  std::byte* scratch = nullptr;  // DecodeAttentionScratchBytes, device, aligned to 16 bytes
};

// OK, or UNIMPLEMENTED with what these kernels cannot do with such a cache on such a device. To be
// asked once, before any attention.
absl::Status CheckCudaAttention(const CudaDeviceInfo& device, const KvLayout& layout);

// Shared memory that a thread block needs, at most; 0: the kernels do not have such heads.
size_t AttentionSharedBytes(int32_t head_dim);

// For sequences of one row each, or of a few: up to 16 (token, head) pairs of one KV head read its
// KV together, once, and each range of keys is work for another thread block.
//
// Floor: bandwidth. 4 * positions * num_kv_heads * head_dim bytes of each sequence are read once
// (while num_rows * num_heads / num_kv_heads <= 16): with 8 KV heads of 128 numbers 1.2 us for each
// 1000 positions, at the 3.35 TB/s of an H100. Tensor cores do 16 FLOP for each byte, as their tile
// has 16 rows whether full or not: 54 TFLOP/s at that bandwidth, about a tenth of what mma.sync can
// do. Rows with more than one range write and read 4 * (head_dim + 2) bytes for each range and head
// besides: with 4 heads to a group and ranges of 512 positions 1.6% of what is read.
void DecodeAttention(const CudaContext& context, const CudaAttentionArgs& args);

// Whether PrefillAttention can use wgmma: on compute capability 9.0 with head dims of 64 and 128.
// With 96 a line of 128 bytes does not divide a head, with 256 there are no registers for two
// warpgroups' output.
bool HasWgmmaAttention(const CudaDeviceInfo& device, int32_t head_dim);

// For sequences of any number of rows: 64 (token, head) pairs of one KV head, 128 with wgmma, are
// work for one thread block. Needs no scratch.
//
// Floor: tensor cores. 4 * head_dim * num_heads FLOP for each row and key that it sees; tiles that
// lie on the diagonal or on a window's edge are computed in full. mma.sync reaches about 60% of an
// H100's peak, and 100% of an A100's. A block reads 4 * head_dim bytes for each key, from caches:
// with 64 rows 64 FLOP for a byte, with 128 rows 128.
void PrefillAttention(const CudaContext& context, const CudaAttentionArgs& args);

// `rows`: num_sequences * max_rows.
size_t DecodeAttentionScratchBytes(int32_t rows, int32_t num_heads, int32_t head_dim,
                                   int32_t max_positions, int32_t key_range_log2 = kKeyRangeLog2);

}  // namespace baton
