#include "common/check.h"
#include "engine/kernels/cuda/launch.h"
#include "engine/kernels/cuda/row_search.h"
#include "engine/kernels/cuda/sampling.h"
#include "engine/sampling/float_math.h"
#include "engine/sampling/random.h"

namespace baton {

namespace {

constexpr int kMaxThreads = 1024;
constexpr int kSumChunk = 512;  // as on the CPU, which the order of additions follows
constexpr int kSumLanes = 8;
constexpr int kMaxChunks = kMaxSampledVocab / kSumChunk;

struct SamplingMemory {
  SearchMemory search;
  union {
    double chunk_sums[kMaxChunks];
    TokenLogprob candidates[kMaxTopLogprobs];  // `logprob` holds the logit
  };
  float chunk[kSumChunk];
  float warp_max[kMaxSearchWarps];
  TokenId warp_tokens[kMaxSearchWarps];
  double warp_sums[kMaxSearchWarps];
  int32_t num_candidates;
};

__device__ __forceinline__ float Infinity() { return __uint_as_float(0x7f800000u); }

struct RowScan {
  float max;
  TokenId token;  // the first of it
  bool bad;       // a NaN or +inf is in it
  __device__ void Meet(float value, TokenId id) {
    if (value < max || (value == max && id > token)) return;
    max = value;
    token = id;
  }
  __device__ bool Broken() const { return bad || max == -Infinity(); }
};

__device__ RowScan Scan(SamplingMemory& memory, const float* values, int32_t vocab_size) {
  RowScan scan{.max = -Infinity(), .token = vocab_size, .bad = false};
  ForEachValue(values, vocab_size, [&](TokenId i, float value) {
    if (value > scan.max) {
      scan.max = value;
      scan.token = i;
    }
    scan.bad |= !(value < Infinity());
  });
  for (int lane = kWarpSize / 2; lane > 0; lane /= 2) {
    const float max = __shfl_xor_sync(kFullWarp, scan.max, lane);
    scan.Meet(max, __shfl_xor_sync(kFullWarp, scan.token, lane));
  }
  const auto thread = static_cast<int>(threadIdx.x);
  if (thread % kWarpSize == 0) {
    memory.warp_max[thread / kWarpSize] = scan.max;
    memory.warp_tokens[thread / kWarpSize] = scan.token;
  }
  scan.bad = __syncthreads_or(scan.bad) != 0;
  for (unsigned warp = 0; warp < blockDim.x / kWarpSize; ++warp) {
    scan.Meet(memory.warp_max[warp], memory.warp_tokens[warp]);
  }
  __syncthreads();
  return scan;
}

// Biases of one token are added in their order, by the thread of the first of them.
__device__ void AddBiases(const CudaSamplingArgs& args, const CudaSampleRow& row, float* adjusted) {
  const TokenBias* biases = args.biases + row.bias_begin;
  const int32_t count = row.bias_end - row.bias_begin;
  ForEachToken(count, [&](int32_t i) {
    const TokenId token = biases[i].token;
    for (int32_t before = 0; before < i; ++before) {
      if (biases[before].token == token) return;
    }
    for (int32_t same = i; same < count; ++same) {
      if (biases[same].token == token) adjusted[token] += biases[same].bias;
    }
  });
}

// `counts`: [vocab_size] scratch.
__device__ void ApplyPenalties(const CudaSamplingArgs& args, const CudaSampleRow& row,
                               uint32_t* counts, float* adjusted) {
  constexpr uint32_t kSeen = 0x80000000u;
  ForEachToken(args.vocab_size, [&](TokenId i) { counts[i] = 0; });
  __syncthreads();
  ForEachToken(row.history_end - row.history_begin, [&](int32_t i) {
    const int32_t at = row.history_begin + i;
    uint32_t* count = counts + args.history[at];
    atomicOr(count, kSeen);
    if (at >= row.outputs_begin) atomicAdd(count, 1u);
  });
  __syncthreads();
  ForEachToken(args.vocab_size, [&](TokenId i) {
    if (counts[i] == 0) return;
    const uint32_t outputs = counts[i] & ~kSeen;
    float logit = adjusted[i];
    logit = logit > 0 ? logit / row.repetition_penalty : logit * row.repetition_penalty;
    if (outputs > 0) {
      logit -= row.frequency_penalty * static_cast<float>(outputs);
      logit -= row.presence_penalty;
    }
    adjusted[i] = logit;
  });
  __syncthreads();
}

// Whether anything applied: then `adjusted` [vocab_size] holds the logits after it.
__device__ bool Adjust(const CudaSamplingArgs& args, const CudaSampleRow& row, const float* logits,
                       uint32_t* counts, float* adjusted) {
  const bool penalised = row.history_end > row.history_begin;
  if (row.bias_end == row.bias_begin && row.masked_end == row.masked_begin && !penalised) {
    return false;
  }
  MapRow(logits, args.vocab_size, adjusted, [](TokenId, float logit) { return logit; });
  __syncthreads();
  AddBiases(args, row, adjusted);
  __syncthreads();
  ForEachToken(row.masked_end - row.masked_begin, [&](int32_t i) {
    // Atomic, as a token may be masked twice.
    atomicExch(adjusted + args.masked[row.masked_begin + i], -Infinity());
  });
  __syncthreads();
  if (penalised) ApplyPenalties(args, row, counts, adjusted);
  return true;
}

// The sums of chunks of weights, each in 8 interleaved partial sums.
__device__ void SumChunks(SamplingMemory& memory, const float* weights, int32_t vocab_size) {
  const auto thread = static_cast<int>(threadIdx.x);
  const int lane = thread % kSumLanes;
  const int groups = static_cast<int>(blockDim.x) / kSumLanes;
  const int chunks = (vocab_size + kSumChunk - 1) / kSumChunk;
  for (int first = 0; first < chunks; first += groups) {  // all lanes stay, for the shuffles
    const int chunk = first + thread / kSumLanes;
    const int start = chunk * kSumChunk;
    const int size = start >= vocab_size ? 0 : min(kSumChunk, vocab_size - start);
    const int whole = size / kSumLanes * kSumLanes;
    double sum = 0;
    for (int i = lane; i < whole; i += kSumLanes) sum += double{weights[start + i]};
    double total = 0;
    for (int from = 0; from < kSumLanes; ++from) {
      total += __shfl_sync(kFullWarp, sum, from, kSumLanes);
    }
    for (int i = whole; i < size; ++i) total += double{weights[start + i]};
    if (lane == 0 && chunk < chunks) memory.chunk_sums[chunk] = total;
  }
  __syncthreads();
}

// Walks the tokens by id until `uniform` of the weight is behind, whole chunks first.
__device__ TokenId DrawById(SamplingMemory& memory, const float* weights, int32_t vocab_size,
                            double uniform) {
  SumChunks(memory, weights, vocab_size);
  FoundBucket& found = memory.search.found;
  if (threadIdx.x == 0) {
    const int chunks = (vocab_size + kSumChunk - 1) / kSumChunk;
    double total = 0;
    int last = 0;  // with any weight: it takes what rounding leaves over
    for (int chunk = 0; chunk < chunks; ++chunk) {
      total += memory.chunk_sums[chunk];
      if (memory.chunk_sums[chunk] != 0) last = chunk;
    }
    found = {.bucket = 0, .before = 0, .total = uniform * total};
    while (found.bucket < last && found.before + memory.chunk_sums[found.bucket] <= found.total) {
      found.before += memory.chunk_sums[found.bucket++];
    }
  }
  __syncthreads();
  const int start = found.bucket * kSumChunk;
  const int size = min(kSumChunk, vocab_size - start);
  ForEachToken(size, [&](int32_t i) { memory.chunk[i] = weights[start + i]; });
  __syncthreads();
  if (threadIdx.x == 0) {
    double behind = found.before;
    for (int i = 0; i < size; ++i) {
      if (memory.chunk[i] == 0) continue;
      memory.search.token = start + i;
      behind += double{memory.chunk[i]};
      if (behind > found.total) break;
    }
  }
  __syncthreads();
  return memory.search.token;
}

// `weights`: [vocab_size] scratch.
__device__ TokenId Draw(SamplingMemory& memory, const CudaSampleRow& row, const float* logits,
                        int32_t vocab_size, float max, float* weights) {
  const double uniform = UniformAt(row.seed, row.sample, row.index);
  const bool ranked = row.top_k > 0;
  OrderCut cut{.bits = 0, .token = vocab_size};
  if (ranked) {
    cut = SelectNth(
        memory.search, logits, vocab_size, [](TokenId) { return true; },
        min(row.top_k, vocab_size));
  }
  MapRow(logits, vocab_size, weights, [&](TokenId i, float logit) {
    const float weight = ExpNonPositive((logit - max) * row.scale);
    const bool kept = weight >= row.min_p && (!ranked || cut.Keeps(OrderedBits(logit), i));
    return kept ? weight : 0.0f;
  });
  __syncthreads();
  if (!ranked && row.top_p >= 1.0f) return DrawById(memory, weights, vocab_size, uniform);

  // Among equal weights: by logit if tokens were ranked, then by id.
  const float* ranks = ranked ? logits : nullptr;
  const auto select = [&](const WeightPlace& place) {
    const auto equal = [&](TokenId i) { return weights[i] == place.weight; };
    const bool alone = place.count == 1;
    return SelectNth(memory.search, alone ? nullptr : ranks, vocab_size, equal, place.nth);
  };
  if (row.top_p < 1.0f) {
    const WeightPlace end =
        FindShare(memory.search, weights, vocab_size, double{row.top_p}, /*inclusive=*/true);
    OrderCut equals{.bits = 0, .token = vocab_size};
    if (end.nth < end.count) equals = select(end);
    ForEachToken(vocab_size, [&](TokenId i) {
      const bool kept =
          weights[i] > end.weight ||
          (weights[i] == end.weight && equals.Keeps(ranked ? OrderedBits(logits[i]) : 0, i));
      if (!kept) weights[i] = 0.0f;
    });
    __syncthreads();
  }
  return select(FindShare(memory.search, weights, vocab_size, uniform, /*inclusive=*/false)).token;
}

// The logarithm of the sum of e^logit.
__device__ double LogSum(SamplingMemory& memory, const float* logits, int32_t vocab_size,
                         float max) {
  double sum = 0;
  ForEachValue(logits, vocab_size,
               [&](TokenId, float logit) { sum += double{ExpNonPositive(logit - max)}; });
  for (int lane = kWarpSize / 2; lane > 0; lane /= 2) sum += __shfl_xor_sync(kFullWarp, sum, lane);
  const auto thread = static_cast<int>(threadIdx.x);
  if (thread % kWarpSize == 0) memory.warp_sums[thread / kWarpSize] = sum;
  __syncthreads();
  double total = 0;
  for (unsigned warp = 0; warp < blockDim.x / kWarpSize; ++warp) total += memory.warp_sums[warp];
  return double{max} + log(total);
}

// The `count` most likely tokens, each put where as many are before it as are better.
__device__ void WriteTop(SamplingMemory& memory, const float* logits, int32_t vocab_size,
                         double log_sum, int32_t count, TokenLogprob* top) {
  const OrderCut cut = SelectNth(
      memory.search, logits, vocab_size, [](TokenId) { return true; }, count);
  if (threadIdx.x == 0) memory.num_candidates = 0;
  __syncthreads();
  ForEachValue(logits, vocab_size, [&](TokenId i, float logit) {
    if (!cut.Keeps(OrderedBits(logit), i)) return;
    memory.candidates[atomicAdd(&memory.num_candidates, 1)] = {i, logit};
  });
  __syncthreads();
  ForEachToken(count, [&](int32_t i) {
    const TokenLogprob candidate = memory.candidates[i];
    int32_t better = 0;
    for (int32_t other = 0; other < count; ++other) {
      const TokenLogprob& that = memory.candidates[other];
      better += that.logprob != candidate.logprob ? that.logprob > candidate.logprob
                                                  : that.token < candidate.token;
    }
    top[better] = {candidate.token, static_cast<float>(double{candidate.logprob} - log_sum)};
  });
}

__global__ void __launch_bounds__(kMaxThreads) SampleTokensKernel(CudaSamplingArgs args) {
  WaitForPreviousGrid();
  SamplingMemory& memory = *DynamicShared<SamplingMemory>();
  const int64_t at = blockIdx.x;
  const int32_t vocab_size = args.vocab_size;
  const CudaSampleRow row = args.rows[at];
  const float* logits = args.logits + int64_t{row.logits_row} * vocab_size;
  float* adjusted = reinterpret_cast<float*>(args.scratch) + 2 * at * vocab_size;
  float* weights = adjusted + vocab_size;
  CudaDrawnToken drawn;
  const RowScan scan = Scan(memory, logits, vocab_size);
  if (scan.Broken()) {
    const auto bad = [&](TokenId i) { return !(logits[i] < Infinity()); };
    drawn.result = scan.bad ? CudaDraw::kNotFinite : CudaDraw::kNothing;
    if (scan.bad) drawn.token = FindFirst(memory.search, vocab_size, bad);
    drawn.logprob = logits[drawn.token];
    if (threadIdx.x == 0) args.drawn[at] = drawn;
    return;
  }
  drawn.token = row.given;
  if (row.given < 0) {
    const float* used = logits;
    RowScan most = scan;
    if (Adjust(args, row, logits, reinterpret_cast<uint32_t*>(weights), adjusted)) {
      const RowScan rescan = Scan(memory, adjusted, vocab_size);
      if (!rescan.Broken()) {  // else nothing is left to draw
        used = adjusted;
        most = rescan;
      }
    }
    drawn.token =
        row.scale > 0 ? Draw(memory, row, used, vocab_size, most.max, weights) : most.token;
  }
  if (row.num_logprobs >= 0) {
    const double log_sum = LogSum(memory, logits, vocab_size, scan.max);
    drawn.logprob = static_cast<float>(double{logits[drawn.token]} - log_sum);
    const int32_t count = min(row.num_logprobs, vocab_size);
    if (count > 0) {
      WriteTop(memory, logits, vocab_size, log_sum, count,
               args.top_logprobs + at * args.max_logprobs);
    }
  }
  if (threadIdx.x == 0) args.drawn[at] = drawn;
}

constexpr int kTakingThreads = 256;

__global__ void __launch_bounds__(kTakingThreads) TakeDrawnTokensKernel(TakeDrawnArgs args) {
  WaitForPreviousGrid();
  const int row = static_cast<int>(blockIdx.x) * kTakingThreads + static_cast<int>(threadIdx.x);
  if (row >= args.rows || args.draws[row] < 0) return;
  const CudaDrawnToken drawn = args.drawn[args.draws[row]];
  args.tokens[row] = drawn.result == CudaDraw::kDrawn ? drawn.token : 0;
}

}  // namespace

size_t SamplingScratchBytes(int32_t num_rows, int32_t vocab_size) {
  return 2 * sizeof(float) * static_cast<size_t>(num_rows) * static_cast<size_t>(vocab_size);
}

void SampleTokens(const CudaContext& context, const CudaSamplingArgs& args) {
  BATON_CHECK(args.vocab_size > 0 && args.vocab_size <= kMaxSampledVocab) << args.vocab_size;
  BATON_CHECK(args.max_logprobs <= kMaxTopLogprobs) << args.max_logprobs;
  int threads = 128;
  while (threads < kMaxThreads && threads * 16 < args.vocab_size) threads *= 2;
  Launch(context, "sample_tokens",
         {.grid = dim3(static_cast<unsigned>(args.num_rows)),
          .block = dim3(static_cast<unsigned>(threads)),
          .shared_bytes = sizeof(SamplingMemory)},
         SampleTokensKernel, args);
}

void TakeDrawnTokens(const CudaContext& context, const TakeDrawnArgs& args) {
  const int blocks = (args.rows + kTakingThreads - 1) / kTakingThreads;
  Launch(context, "take_drawn_tokens",
         {.grid = dim3(static_cast<unsigned>(blocks)), .block = dim3(kTakingThreads)},
         TakeDrawnTokensKernel, args);
}

}  // namespace baton
