// What an op, or a step of a model, must do at least: bytes that pass through device memory,
// floating point operations, bytes over the bus. Counted from shapes alone, so that a measured time
// can be held against a floor.
//
// Counted are numbers that have to be read or written once: weights, KV, inputs and outputs. Not
// counted is what a better program would not move: of a whole step the activations between its ops,
// padding of tiles, partial results of attention, attention to keys that no row sees.
#pragma once

#include <algorithm>
#include <cstdint>

namespace baton::roofline {

struct Work {
  double bytes = 0;      // read and written in device memory
  double flop = 0;       // of bf16 products
  double bus_bytes = 0;  // from the host

  constexpr Work& operator+=(const Work& other) {
    bytes += other.bytes;
    flop += other.flop;
    bus_bytes += other.bus_bytes;
    return *this;
  }
  friend constexpr Work operator+(Work a, const Work& b) { return a += b; }
  friend constexpr Work operator*(double times, const Work& a) {
    return {times * a.bytes, times * a.flop, times * a.bus_bytes};
  }
};

// Of a device; 0: not known, and nothing is held against it.
struct Ceilings {
  double bytes_per_s = 0;
  double flop_per_s = 0;
  double bus_bytes_per_s = 0;
};
// Of one H100 (SXM), as docs/gpu.md has them: given, not measured here.
inline constexpr Ceilings kNominal = {.bytes_per_s = 3.0e12, .flop_per_s = 798e12};

enum class Bound { kNone, kBytes, kFlop, kBus };

struct Floor {
  double ms = 0;  // 0: none
  Bound bound = Bound::kNone;
};

// No program runs faster: the slowest of the three, as if they overlapped in full.
constexpr Floor FloorOf(const Work& work, const Ceilings& ceilings) {
  Floor floor;
  const auto take = [&](double amount, double per_s, Bound bound) {
    if (amount <= 0 || per_s <= 0) return;
    const double ms = 1e3 * amount / per_s;
    if (ms > floor.ms) floor = {ms, bound};
  };
  take(work.bytes, ceilings.bytes_per_s, Bound::kBytes);
  take(work.flop, ceilings.flop_per_s, Bound::kFlop);
  take(work.bus_bytes, ceilings.bus_bytes_per_s, Bound::kBus);
  return floor;
}

inline constexpr double kE4m3Bytes = 1;
inline constexpr double kBf16Bytes = 2;
inline constexpr double kF32Bytes = 4;

// output[m, n] = input[m, k] * weights[n, k]^T. `output_bytes`: of one number; a sum is read too.
struct ProductWork {
  double m = 0, n = 0, k = 0;
  double output_bytes = kBf16Bytes;
  bool adds = false;
};
constexpr Work Count(const ProductWork& p) {
  return {
      .bytes = kBf16Bytes * (p.m * p.k + p.n * p.k) + p.output_bytes * p.m * p.n * (p.adds ? 2 : 1),
      .flop = 2 * p.m * p.n * p.k};
}

// Causal attention of `tokens` rows a sequence behind `context` earlier positions.
struct AttentionWork {
  double sequences = 0, context = 0, tokens = 0;
  double heads = 0, kv_heads = 0, head_dim = 0;
};
// Pairs of a row and a key that it sees, of one sequence.
constexpr double CountPairs(const AttentionWork& a) {
  return a.tokens * a.context + a.tokens * (a.tokens + 1) / 2;
}
constexpr Work Count(const AttentionWork& a) {
  const double queries_and_output = 2 * a.tokens * a.heads * a.head_dim;
  const double kv = 2 * (a.context + a.tokens) * a.kv_heads * a.head_dim;
  return {.bytes = kBf16Bytes * a.sequences * (queries_and_output + kv),
          .flop = 4 * a.sequences * CountPairs(a) * a.heads * a.head_dim};
}

// Memory-bound ops over rows, as engine/kernels/cuda has them.
constexpr Work CountEmbedding(double rows, double width) {
  return {.bytes = rows * width * (kBf16Bytes + kF32Bytes)};
}
constexpr Work CountRmsNorm(double rows, double width) {
  return {.bytes = rows * width * (kF32Bytes + kBf16Bytes) + width * kF32Bytes};
}
// As e4m3 with an f32 scale for each row.
constexpr Work CountRmsNormToE4m3(double rows, double width) {
  return {.bytes = rows * width * (kF32Bytes + kE4m3Bytes) + (rows + width) * kF32Bytes};
}
// Queries in place, keys and values into the cache.
constexpr Work CountRopeWrite(double rows, double heads, double kv_heads, double head_dim) {
  return {.bytes = rows * 2 * kBf16Bytes * (heads + 2 * kv_heads) * head_dim};
}
constexpr Work CountSiluMul(double rows, double width) {
  return {.bytes = rows * width * 3 * kBf16Bytes};
}
constexpr Work CountSiluMulToE4m3(double rows, double width) {
  return {.bytes = rows * width * (2 * kBf16Bytes + kE4m3Bytes) + rows * kF32Bytes};
}
constexpr Work CountCopy(double bytes) { return {.bytes = 2 * bytes}; }
constexpr Work CountSampling(double rows, double vocab) {
  return {.bytes = rows * vocab * kF32Bytes};
}

// A decoder's sizes, as far as its work depends on them.
struct DecoderSizes {
  int32_t hidden = 0, intermediate = 0, layers = 0, vocab = 0;
  int32_t heads = 0, kv_heads = 0, head_dim = 0;

  constexpr double QSize() const { return double{1} * heads * head_dim; }
  constexpr double KvSize() const { return double{1} * kv_heads * head_dim; }
  // Numbers of all layers' matrices.
  constexpr double LayerNumbers() const {
    return layers * (double{1} * hidden * (2 * QSize() + 2 * KvSize()) +
                     3.0 * hidden * double{1} * intermediate);
  }
  constexpr double KvBytesPerToken() const { return 2 * kBf16Bytes * layers * KvSize(); }
};

// `tokens` rows of each of `sequences` sequences behind `context` positions; logits of the last row
// of each, in f32.
struct StepWork {
  double sequences = 0, context = 0, tokens = 0;
};
constexpr Work Count(const DecoderSizes& d, const StepWork& s) {
  const double rows = s.sequences * s.tokens;
  const double table = double{1} * d.vocab * d.hidden;
  Work work;
  work.bytes = kBf16Bytes * (d.LayerNumbers() + table) +      // weights
               kBf16Bytes * rows * d.hidden +                 // embeddings
               kF32Bytes * (2.0 * d.layers + 1) * d.hidden +  // norms
               d.KvBytesPerToken() * s.sequences * (s.context + s.tokens) +
               kF32Bytes * s.sequences * d.vocab;  // logits
  const AttentionWork attention{.sequences = s.sequences,
                                .context = s.context,
                                .tokens = s.tokens,
                                .heads = double{1} * d.heads,
                                .kv_heads = double{1} * d.kv_heads,
                                .head_dim = double{1} * d.head_dim};
  work.flop =
      2 * rows * d.LayerNumbers() + 2 * s.sequences * table + d.layers * Count(attention).flop;
  return work;
}

}  // namespace baton::roofline
