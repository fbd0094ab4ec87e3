// Prompt and output lengths.
#pragma once

#include <cstdint>
#include <string>
#include <string_view>

#include "absl/status/statusor.h"
#include "bench/load/core/random.h"

namespace baton::load {

struct Lengths {
  int32_t prompt_tokens = 1;
  int32_t output_tokens = 1;
};

enum class LengthKind {
  kFixed,      // a
  kUniform,    // whole numbers from a to b
  kLognormal,  // median a, standard deviation of the logarithm b; the mean is a·exp(b²/2)
  kTrace,      // those of the trace
};

struct LengthSpec {
  struct Side {
    double a = 1;
    double b = 0;
  };
  LengthKind kind = LengthKind::kFixed;
  Side prompt{512, 0};
  Side output{64, 0};
};

// "fixed:512/64", "uniform:100-1000/8-64", "lognormal:512,0.8/64,0.5" or "trace".
absl::StatusOr<LengthSpec> ParseLengths(std::string_view text);

// At least one token each, multiplied by `scale` and rounded. Not for kTrace.
Lengths DrawLengths(const LengthSpec& spec, double scale, Rng& rng);
Lengths ScaleLengths(const Lengths& lengths, double scale);

}  // namespace baton::load
