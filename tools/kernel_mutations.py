"""Errors for tools/mutate_kernels.py to put into the CUDA kernels."""

import typing

EMULATION = "cuda_emulation_test"
RACES = "cuda_race_test"
MODEL_RACES = "cuda_model_race_test"


class Mutation(typing.NamedTuple):
    name: str
    file: str  # in engine/kernels/cuda
    text: str  # that is there once
    replacement: str
    tests: str  # GoogleTest's filter
    found_by: str = EMULATION


DECODE = "DecodeAttentionTest.*"
MERGES = "DecodeAttentionTest.EqualsANaive*:DecodeAttentionTest.BlocksMayTake*"
PREFILL = "*PrefillAttentionTest.EqualsANaive*/mma"
WGMMA = "*PrefillAttentionTest.EqualsANaive*/wgmma"
RANKS = "CudaSamplingTest.RanksByLogit*:CudaSamplingTest.GivesLogprobs*"
WEIGHTS = "CudaSamplingTest.DrawsFromAllTokens"
LOGPROBS = "CudaSamplingTest.GivesLogprobs*"
PRODUCTS = "*QuantizedLinearTest.*"
REGIONS = "*CudaRegionsTest.*"
INVARIANT = "InvariantLinearTest.*"
E4M3_ROWS = "CudaE4m3RowsTest.*"
LAUNCHES = "CudaDependentLaunchTest."

MUTATIONS = [
    # Barriers.
    Mutation("decode-range-barrier", "decode_attention.cu",
             "  __syncthreads();  // other warps may still use the values of the range before\n",
             "", MERGES, RACES),
    Mutation("decode-queries-barrier", "decode_attention.cu",
             "  ring.Start(begin);\n  __syncthreads();\n", "  ring.Start(begin);\n", DECODE, RACES),
    Mutation("prefill-queries-barrier", "prefill_attention.cu",
             "  ring.Start(first);\n  __syncthreads();\n", "  ring.Start(first);\n", PREFILL,
             RACES),
    Mutation("ring-barrier", "attention_shared.h",
             "    CpAsyncWait<kSlots - 2>();\n    __syncthreads();\n",
             "    CpAsyncWait<kSlots - 2>();\n", MERGES, RACES),
    Mutation("wgmma-stage-barrier", "wgmma_attention.cu",
             "    FenceSharedForWgmma();\n    __syncthreads();\n", "    FenceSharedForWgmma();\n",
             WGMMA, RACES),
    Mutation("norm-sum-barrier", "rms_norm.cu",
             "sums[thread / kWarpSize] = value;\n  __syncthreads();\n",
             "sums[thread / kWarpSize] = value;\n", "*RowOpsTest*:*RmsNorm*", RACES),
    Mutation("row-peak-barrier", "e4m3_rows.h",
             "peaks[thread / kWarpSize] = bits;\n  __syncthreads();\n",
             "peaks[thread / kWarpSize] = bits;\n", E4M3_ROWS, RACES),
    Mutation("rope-angles-barrier", "rope_write.cu",
             "    turns.sines[i] = sinf(angle);\n  }\n  __syncthreads();\n",
             "    turns.sines[i] = sinf(angle);\n  }\n", "*RopeWrite*", RACES),
    Mutation("product-sums-barrier", "quantized_linear.cu",
             "  sums.Store(totals);\n  __syncthreads();\n", "  sums.Store(totals);\n",
             PRODUCTS, RACES),
    Mutation("invariant-sums-barrier", "invariant_linear.cu",
             "  sums.Store(totals);\n  __syncthreads();\n", "  sums.Store(totals);\n",
             INVARIANT, RACES),
    Mutation("invariant-stage-barrier", "invariant_tiles.cu",
             "    CpAsyncWait<Shape::kStages - 2>();\n    __syncthreads();\n",
             "    CpAsyncWait<Shape::kStages - 2>();\n", INVARIANT, RACES),
    Mutation("checksum-halves-barrier", "checksum.cu",
             "            kChainThreads - kWarpThreads);\n    }\n    __syncthreads();\n",
             "            kChainThreads - kWarpThreads);\n    }\n", "*Checksum*", RACES),
    Mutation("checksum-merge-barrier", "checksum.cu",
             "kMergeSecret + thread * 8);\n  __syncthreads();\n",
             "kMergeSecret + thread * 8);\n", "*Checksum*", RACES),
    Mutation("draw-weights-barrier", "sampling.cu",
             "    return kept ? weight : 0.0f;\n  });\n  __syncthreads();\n",
             "    return kept ? weight : 0.0f;\n  });\n", WEIGHTS, RACES),
    Mutation("log-sum-barrier", "sampling.cu",
             "memory.warp_sums[thread / kWarpSize] = sum;\n  __syncthreads();\n",
             "memory.warp_sums[thread / kWarpSize] = sum;\n", LOGPROBS, RACES),
    Mutation("clear-before-barrier", "row_search.h",
             "ClearBuckets(SearchMemory& memory) {\n  __syncthreads();\n",
             "ClearBuckets(SearchMemory& memory) {\n", RANKS, RACES),
    Mutation("clear-behind-barrier", "row_search.h",
             "    memory.high[i] = 0;\n  });\n  __syncthreads();\n",
             "    memory.high[i] = 0;\n  });\n", RANKS, RACES),
    Mutation("counted-buckets-barrier", "row_search.h",
             "Crosses crosses) {\n  __syncthreads();\n", "Crosses crosses) {\n", RANKS, RACES),
    Mutation("found-bucket-barrier", "row_search.h",
             "  __syncthreads();\n  return memory.found;\n", "  return memory.found;\n", RANKS,
             RACES),
    Mutation("nth-token-barrier", "row_search.h",
             "    if (here && rank == nth) memory.token = token;\n    __syncthreads();\n",
             "    if (here && rank == nth) memory.token = token;\n", RANKS, RACES),
    # Copies and products that do not wait.
    Mutation("ring-waits-too-little", "attention_shared.h",
             "    CpAsyncWait<kSlots - 2>();\n", "    CpAsyncWait<kSlots - 1>();\n", MERGES),
    Mutation("invariant-waits-too-little", "invariant_tiles.cu",
             "    CpAsyncWait<Shape::kStages - 2>();\n", "    CpAsyncWait<Shape::kStages - 1>();\n",
             INVARIANT),
    Mutation("wgmma-waits-too-little", "wgmma_attention.cu",
             "    CpAsyncWait<kStages - 2>();\n", "    CpAsyncWait<kStages - 1>();\n", WGMMA),
    Mutation("wgmma-proxy-fence", "wgmma_attention.cu", "    FenceSharedForWgmma();\n", "", WGMMA),
    Mutation("wgmma-values-wait", "wgmma_attention.cu",
             "corrections);\n    WgmmaWait<0>(state.output, weights);\n",
             "corrections);\n    WgmmaWait<1>(state.output, weights);\n", WGMMA),
    # Two threads that write the same.
    Mutation("all-lanes-count", "row_search.h",
             "    if (thread % kWarpSize == 0) memory.warp_counts", "    memory.warp_counts",
             RANKS, RACES),
    Mutation("all-warps-store-sums", "decode_attention.cu",
             "    if (column == 0 && FragmentColumn() == 0) {", "    {", MERGES, RACES),
    # Masks and bounds.
    Mutation("softmax-sees-too-little", "attention_softmax.h",
             "if (key < first || key > position)", "if (key < first || key >= position)", MERGES),
    Mutation("window-sees-too-much", "attention_rows.h",
             "max(0, position - args.window + 1)", "max(0, position - args.window)",
             "DecodeAttentionTest.AWindow*"),
    Mutation("cache-rows-too-few", "attention_shared.h",
             "at <= bounds_.last;", "at < bounds_.last;", MERGES),
    Mutation("product-rows-unbounded", "warp_sums.h",
             "OfAllWarps(row, output);\n      if (first_row + row < args.rows && ",
             "OfAllWarps(row, output);\n      if (", PRODUCTS),
    Mutation("invariant-weights-beyond-the-last-input", "invariant_linear.cu",
             "if (at >= args.k) return", "if (at > args.k) return", INVARIANT),
    Mutation("invariant-copies-beyond-the-last-input", "invariant_tiles.cu",
             "first + row < rows && at < k;", "first + row < rows && at <= k;", INVARIANT),
    Mutation("invariant-rows-unbounded", "invariant_tiles.cu",
             "if (row >= args.rows || output >= args.n) continue;",
             "if (output >= args.n) continue;", INVARIANT),
    Mutation("copy-one-too-many", "copy_rows.cu",
             "    if (first + i * kThreads < pieces) to[",
             "    if (first + i * kThreads <= pieces) to[",
             "*RowOps*:*Gather*:*CopyBlocks*"),
    Mutation("slot-copies", "copy_rows.cu",
             "copy.parts + region / copy.copies;", "copy.parts + region % copy.parts;", REGIONS),
    Mutation("slot-values", "copy_rows.cu",
             "int64_t{copy.blocks[blockIdx.x]} * copy.pieces + piece;",
             "int64_t{copy.blocks[blockIdx.x]} * copy.pieces;", REGIONS),
    Mutation("slot-reads-any-copy", "copy_rows.cu",
             "copy.layers[i] = args.layers[i * step];", "copy.layers[i] = args.layers[i];",
             REGIONS),
    Mutation("slot-next-launch", "copy_rows.cu",
             "args.block_bytes * copy.parts;  // of a block", "args.block_bytes;  // of a block",
             REGIONS),
    Mutation("checksum-last-stripe", "checksum.cu",
             "args.length_bytes - 1 - begin) / kStripeBytes",
             "args.length_bytes - begin) / kStripeBytes",
             "*Checksum*"),
    # Lanes and indices.
    Mutation("softmax-half-of-the-lanes", "attention_softmax.h",
             "  maximum = fmaxf(maximum, __shfl_xor_sync(kFullWarp, maximum, 2));\n", "", MERGES),
    Mutation("prefill-merge-rows", "prefill_attention.cu",
             "Merge(factors[i % 4 / 2], rest", "Merge(factors[i % 2], rest",
             "*PrefillAttentionTest.KeysOfManyRanges*/mma"),
    Mutation("invariant-pieces-not-turned", "invariant_tiles.cu",
             "PieceAt(lane / 4, group * 4 + lane % 4)",
             "lane / 4 * kPieces + group * 4 + lane % 4", INVARIANT),
    Mutation("rank-counts-itself", "row_search.h",
             "(1u << (thread % kWarpSize)) - 1)", "(2u << (thread % kWarpSize)) - 1)", RANKS),
    Mutation("most-likely-ties", "sampling.cu",
             "(value == max && id > token)", "(value == max && id < token)",
             "CudaSamplingTest.TakesTheMostLikely"),
    Mutation("top-ties", "sampling.cu",
             ": that.token < candidate.token", ": that.token > candidate.token", LOGPROBS),
    Mutation("gated-pair-of-odd-outputs", "invariant_tiles.cu",
             "output % 2 == 0) FinishPair", "output % 2 == 1) FinishPair", INVARIANT),
    Mutation("decode-upper-half-of-full-tiles-only", "decode_attention.cu",
             "rows.Has(kMmaRows / 2)", "rows.Has(kMmaRows - 1)", DECODE),
    Mutation("rope-sign", "rope_write.cu",
             "low * cosines[at + i] - high * sines[at + i]",
             "low * cosines[at + i] + high * sines[at + i]", "*RopeWrite*"),
    # Sums, scales, epilogues, conversions.
    Mutation("merge-factors-swapped", "decode_attention.cu",
             "FactorsOfMerge(maximum, partials.maxima[first + i], scale_log2)",
             "FactorsOfMerge(partials.maxima[first + i], maximum, scale_log2)", MERGES),
    Mutation("merge-in-falling-order", "decode_attention.cu",
             "  for (int32_t i = 0; i < end - begin; ++i) {\n    const float2 more",
             "  for (int32_t i = end - begin - 1; i >= 0; --i) {\n    const float2 more",
             "DecodeAttentionTest.RangesAreMerged*"),
    Mutation("norm-peak-of-half-a-vector", "rms_norm.cu",
             "peak = PeakOf(PeakOf(peak, normed.x), normed.y);", "peak = PeakOf(peak, normed.x);",
             E4M3_ROWS),
    Mutation("gated-rest-skips-a-vector", "silu_mul.cu",
             "first + kVectors * step;", "first + (kVectors + 1) * step;", E4M3_ROWS),
    Mutation("gated-scale-of-the-first-row", "silu_mul.cu",
             "ScaleRow(peak, rows.scales + row)", "ScaleRow(peak, rows.scales)", E4M3_ROWS),
    Mutation("refused-input-not-written-again", "linear.cc",
             "  return plans_.Multiply(product);\n",
             "  plans_.Multiply(product);\n  return true;\n", "CudaFp8Test.AnInput*"),
    # Nothing but last bits.
    Mutation("invariant-halves-in-falling-order", "invariant_tiles.cu",
             "+ half_ * kStageInputs;", "+ (1 - half_) * kStageInputs;", INVARIANT),
    Mutation("invariant-groups-in-falling-order", "invariant_tiles.cu",
             "group * 4 + lane % 4", "(1 - group) * 4 + lane % 4", INVARIANT),
    Mutation("warps-in-falling-order", "warp_sums.h",
             "for (int i = 0; i < kSumWarps; ++i) sum",
             "for (int i = kSumWarps - 1; i >= 0; --i) sum", INVARIANT),
    Mutation("gated-product-not-rounded", "warp_sums.h",
             "Gated(ToFloat(RoundToBf16(gate)), ", "Gated(gate, ", INVARIANT),
    # What a kernel does before its wait.
    Mutation("silu-does-not-wait", "silu_mul.cu",
             "SiluMulVectors(const Bf16* input, Bf16* output, int64_t count) {\n"
             "  WaitForPreviousGrid();\n",
             "SiluMulVectors(const Bf16* input, Bf16* output, int64_t count) {\n", "*SiluMul*"),
    Mutation("merge-block-does-not-wait", "decode_attention.cu",
             "  WaitForPreviousGrid();\n  const auto row = static_cast<int32_t>(blockIdx.x);\n",
             "  if (blockIdx.x == 1) return;\n  WaitForPreviousGrid();\n"
             "  const auto row = static_cast<int32_t>(blockIdx.x);\n", DECODE),
    Mutation("norm-reads-before-its-wait", "rms_norm.cu",
             "  WaitForPreviousGrid();  // weights do not change meanwhile\n",
             "  float first = args.input[row];\n  asm volatile(\"\" ::\"m\"(first));\n"
             "  WaitForPreviousGrid();\n",
             LAUNCHES + "BatchInvariant*", MODEL_RACES),
    Mutation("product-reads-inputs-before-its-wait", "invariant_linear.cu",
             "  WaitForPreviousGrid();  // weights do not change meanwhile\n",
             "  uint4 early[kRowTiles];\n"
             "  if (warp < chunks) LoadInput(args, first_row, warp * kChunkInputs, early);\n"
             "  asm volatile(\"\" ::\"m\"(early));\n"
             "  WaitForPreviousGrid();\n",
             LAUNCHES + "BatchInvariant*", MODEL_RACES),
    Mutation("merge-reads-before-its-wait", "decode_attention.cu",
             "  WaitForPreviousGrid();\n  const auto row = static_cast<int32_t>(blockIdx.x);\n",
             "  float early = partials.maxima[0];\n  asm volatile(\"\" ::\"m\"(early));\n"
             "  WaitForPreviousGrid();\n  const auto row = static_cast<int32_t>(blockIdx.x);\n",
             MERGES, RACES),
    Mutation("scales-of-the-other-outputs", "quantized_linear.cu",
             "j < 2 ? LowBf16(scales) : HighBf16(scales)",
             "j < 2 ? HighBf16(scales) : LowBf16(scales)", PRODUCTS),
    Mutation("unpacked-scales-swapped", "dequantize.cu",
             "ScaledHalf(pairs, 1, HighBf16(scales))", "ScaledHalf(pairs, 1, LowBf16(scales))",
             PRODUCTS),
    Mutation("product-does-not-add", "warp_sums.h",
             "      f32[at] += product;\n", "      f32[at] = product;\n", PRODUCTS),
    Mutation("int8-bias", "quantized_lane.h", "^ 0xc380c380u", "^ 0xc300c300u", PRODUCTS),
    Mutation("share-of-a-bucket-excludes", "row_search.h",
             "return inclusive ? reached >= wanted : reached > wanted;", "return reached > wanted;",
             "CudaSamplingTest.TopPEnds*"),
    Mutation("share-excludes", "row_search.h",
             "return inclusive ? reached >= target : reached > target;", "return reached > target;",
             "CudaSamplingTest.TopPEnds*"),
]
