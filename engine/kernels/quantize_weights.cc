// Compiled with AVX2: nothing of the standard library, see bf16.h.
#include "engine/kernels/quantize_weights.h"

#include <immintrin.h>

#include "engine/kernels/cpu/vec_avx2.h"
#include "engine/kernels/quantize.h"

namespace baton {
namespace {

using F = __m256;   // a float of each of eight columns
using I = __m256i;  // an int32 of each

constexpr size_t kLanes = kQuantLanes;

F Abs(F x) { return _mm256_andnot_ps(_mm256_set1_ps(-0.0f), x); }
I Bits(F x) { return _mm256_castps_si256(x); }
F FromBits(I x) { return _mm256_castsi256_ps(x); }

// The upper halves are bf16: ToBf16 of each lane. NaNs come out as NaNs or infinities.
I RoundToBf16(F x) {
  const I odd = _mm256_and_si256(_mm256_srli_epi32(Bits(x), 16), _mm256_set1_epi32(1));
  const I rounded = _mm256_add_epi32(Bits(x), _mm256_add_epi32(odd, _mm256_set1_epi32(0x7fff)));
  return _mm256_and_si256(rounded, _mm256_set1_epi32(static_cast<int>(0xffff0000u)));
}

// 1 / step, but 0 where that is infinite: such tiny weights get the level 0.
F Inverse(F step) {
  const F inverse = _mm256_div_ps(_mm256_set1_ps(1.0f), step);
  const F finite = _mm256_cmp_ps(Abs(inverse), _mm256_set1_ps(__builtin_inff()), _CMP_LT_OQ);
  return _mm256_and_ps(inverse, finite);
}

// In floats, whole numbers from `least` to `most`.
F Level(F value, F inverse, F least, F most) {
  const F level = _mm256_min_ps(_mm256_max_ps(_mm256_mul_ps(value, inverse), least), most);
  return _mm256_round_ps(level, _MM_FROUND_TO_NEAREST_INT | _MM_FROUND_NO_EXC);
}

// values[i] = weight i of the columns from `column`; zeros where there is none.
void LoadColumns(const QuantizeGroupArgs& args, size_t column, F values[kQuantGroup]) {
  alignas(32) uint32_t rows[kLanes][kQuantGroup] = {};
  alignas(32) uint32_t columns[kQuantGroup][kLanes];
  for (size_t lane = 0; lane < kLanes && column + lane < args.num_rows; ++lane) {
    __builtin_memcpy(rows[lane], args.rows[column + lane], args.count * sizeof(float));
  }
  for (size_t begin = 0; begin < kQuantGroup; begin += kLanes) {
    Avx2::Transpose(rows[0] + begin, kQuantGroup, columns[begin], kLanes);
  }
  for (int i = 0; i < kQuantGroup; ++i) {
    values[i] = _mm256_load_ps(reinterpret_cast<const float*>(columns[i]));
  }
}

// All ones in the lanes of columns that exist.
I Present(const QuantizeGroupArgs& args, size_t column) {
  const I lanes = _mm256_setr_epi32(0, 1, 2, 3, 4, 5, 6, 7);
  return _mm256_cmpgt_epi32(_mm256_set1_epi32(static_cast<int>(args.num_rows - column)), lanes);
}

// `scale`: bf16 in the upper halves.
void StoreScales(const QuantizeGroupArgs& args, size_t column, I scale, I present) {
  const I low = _mm256_and_si256(_mm256_srli_epi32(scale, 16), present);
  const __m128i packed =
      _mm_packus_epi32(_mm256_castsi256_si128(low), _mm256_extracti128_si256(low, 1));
  _mm_storeu_si128(reinterpret_cast<__m128i*>(args.scales + column), packed);
}

struct Levels {
  float least;
  float most;
  int32_t bias;
  int32_t per_step;  // inputs that a step covers
};
constexpr Levels kInt8Levels = {-128, 127, kInt8Bias, 4};
constexpr Levels kInt4Levels = {-8, 7, kInt4Bias, 8};

template <Levels kLevels>
void StoreLevels(const QuantizeGroupArgs& args, size_t column, const F values[kQuantGroup], I scale,
                 I present) {
  const F inverse = Inverse(FromBits(scale));
  const F least = _mm256_set1_ps(kLevels.least);
  const F most = _mm256_set1_ps(kLevels.most);
  for (int step = 0; step < kQuantGroup / kLevels.per_step; ++step) {
    I packed = _mm256_setzero_si256();
#pragma GCC unroll 8
    for (int i = 0; i < kLevels.per_step; ++i) {
      const F level = Level(values[step * kLevels.per_step + i], inverse, least, most);
      const I stored = _mm256_add_epi32(_mm256_cvtps_epi32(level), _mm256_set1_epi32(kLevels.bias));
      packed = _mm256_or_si256(packed, _mm256_slli_epi32(stored, 8 * (i % 4) + 4 * (i / 4)));
    }
    uint8_t* target = args.levels + (static_cast<size_t>(step) * args.columns + column) * 4;
    _mm256_storeu_si256(reinterpret_cast<I*>(target), _mm256_and_si256(packed, present));
  }
}

// The weight with the largest magnitude.
F Peak(const F values[kQuantGroup]) {
  F peak = _mm256_setzero_ps();
  for (int i = 0; i < kQuantGroup; ++i) {
    const F larger = _mm256_cmp_ps(Abs(values[i]), Abs(peak), _CMP_GT_OQ);
    peak = _mm256_blendv_ps(peak, values[i], larger);
  }
  return peak;
}

// Of the scales tried, the one with the least squared error, the earlier one of two.
template <Levels kLevels>
class ScaleSearch {
 public:
  // `first`: what remains if every error overflows.
  ScaleSearch(const F* values, size_t count, F first)
      : values_(values), count_(static_cast<int>(count)), best_(first) {}

  // Several at once, so that their sums hide each other's latency.
  template <int kScales>
  void Try(const F (&scale)[kScales]) {
    F inverse[kScales];
    F error[kScales];
    for (int s = 0; s < kScales; ++s) {
      inverse[s] = Inverse(scale[s]);
      error[s] = _mm256_setzero_ps();
    }
    for (int i = 0; i < count_; ++i) {
#pragma GCC unroll 8
      for (int s = 0; s < kScales; ++s) {
        const F off = _mm256_sub_ps(values_[i], _mm256_mul_ps(scale[s], LevelOf(i, inverse[s])));
        error[s] = _mm256_add_ps(error[s], _mm256_mul_ps(off, off));
      }
    }
    for (int s = 0; s < kScales; ++s) {
      const F better = _mm256_cmp_ps(error[s], least_error_, _CMP_LT_OQ);
      best_ = _mm256_blendv_ps(best_, scale[s], better);
      least_error_ = _mm256_blendv_ps(least_error_, error[s], better);
    }
  }

  // The scale that fits the levels of the best one so far best.
  F FittingScale() const {
    const F inverse = Inverse(best_);
    F products = _mm256_setzero_ps();
    F squares = _mm256_setzero_ps();
    for (int i = 0; i < count_; ++i) {
      const F level = LevelOf(i, inverse);
      products = _mm256_add_ps(products, _mm256_mul_ps(level, values_[i]));
      squares = _mm256_add_ps(squares, _mm256_mul_ps(level, level));
    }
    const F fitting = FromBits(RoundToBf16(_mm256_div_ps(products, squares)));
    const F none = _mm256_cmp_ps(squares, _mm256_setzero_ps(), _CMP_EQ_OQ);
    return _mm256_blendv_ps(fitting, best_, none);
  }

  I Best() const { return Bits(best_); }

 private:
  F LevelOf(int i, F inverse) const {
    return Level(values_[i], inverse, _mm256_set1_ps(kLevels.least), _mm256_set1_ps(kLevels.most));
  }

  const F* values_;
  const int count_;
  F best_;
  F least_error_ = _mm256_set1_ps(__builtin_inff());
};

// The peak gets the level -128, or with the larger scales one near it. They are as good at random:
// the best of eight leaves a fifth less error than the first one.
I Int8Scale(const QuantizeGroupArgs& args, const F values[kQuantGroup]) {
  I bits = RoundToBf16(_mm256_div_ps(Peak(values), _mm256_set1_ps(-128.0f)));
  ScaleSearch<kInt8Levels> search(values, args.count, FromBits(bits));
  for (int half = 0; half < 2; ++half) {
    F scales[4];
    for (F& scale : scales) {
      scale = FromBits(bits);
      bits = _mm256_add_epi32(bits, _mm256_set1_epi32(0x10000));  // the next bf16
    }
    search.Try(scales);
  }
  return search.Best();
}

// The peak gets the level -8, or one near it: the levels reach further down than up.
constexpr float kReaches[2][5] = {{-8.0f, -9.5f, -9.0f, -8.5f, -7.5f},
                                  {-7.0f, 7.0f, 7.5f, 8.0f, 8.5f}};

I Int4Scale(const QuantizeGroupArgs& args, const F values[kQuantGroup]) {
  const F peak = Peak(values);
  const auto scale_of = [peak](float reach) {
    return FromBits(RoundToBf16(_mm256_div_ps(peak, _mm256_set1_ps(reach))));
  };
  ScaleSearch<kInt4Levels> search(values, args.count, scale_of(kReaches[0][0]));
  for (const auto& reaches : kReaches) {
    F scales[5];
    for (int i = 0; i < 5; ++i) scales[i] = scale_of(reaches[i]);
    search.Try(scales);
  }
  for (int i = 0; i < 2; ++i) {
    const F fitting[1] = {search.FittingScale()};
    search.Try(fitting);
  }
  return search.Best();
}

// NaN in the lanes of columns that have a NaN or an infinity.
I PoisonedScale(const F values[kQuantGroup], I scale) {
  F poison = _mm256_setzero_ps();
  for (int i = 0; i < kQuantGroup; ++i) {
    poison = _mm256_add_ps(poison, _mm256_mul_ps(values[i], _mm256_setzero_ps()));
  }
  const I poisoned = Bits(_mm256_cmp_ps(poison, poison, _CMP_UNORD_Q));
  return _mm256_blendv_epi8(scale, _mm256_set1_epi32(0x7fc00000), poisoned);
}

template <Levels kLevels, I (*kScale)(const QuantizeGroupArgs&, const F*)>
void QuantizeGroup(const QuantizeGroupArgs& args) {
  for (size_t column = 0; column < args.num_rows; column += kLanes) {
    F values[kQuantGroup];
    LoadColumns(args, column, values);
    const I present = Present(args, column);
    const I scale = PoisonedScale(values, kScale(args, values));
    StoreScales(args, column, scale, present);
    StoreLevels<kLevels>(args, column, values, scale, present);
  }
}

}  // namespace

void QuantizeGroupToInt8(const QuantizeGroupArgs& args) {
  QuantizeGroup<kInt8Levels, Int8Scale>(args);
}

void QuantizeGroupToInt4(const QuantizeGroupArgs& args) {
  QuantizeGroup<kInt4Levels, Int4Scale>(args);
}

}  // namespace baton
