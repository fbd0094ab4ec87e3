#include "bench/load/core/random.h"

#include <bit>
#include <cmath>
#include <numbers>

#include "common/check.h"

namespace baton::load {
namespace {

uint64_t SplitMix(uint64_t& state) {
  uint64_t x = state += 0x9e3779b97f4a7c15u;
  x = (x ^ (x >> 30)) * 0xbf58476d1ce4e5b9u;
  x = (x ^ (x >> 27)) * 0x94d049bb133111ebu;
  return x ^ (x >> 31);
}

}  // namespace

Rng::Rng(uint64_t seed, uint64_t stream) {
  uint64_t state = seed;
  state = SplitMix(state) ^ (stream * 0xd1342543de82ef95u);
  for (uint64_t& word : state_) word = SplitMix(state);
}

uint64_t Rng::Next() {
  const uint64_t result = std::rotl(state_[1] * 5, 7) * 9;
  const uint64_t shifted = state_[1] << 17;
  state_[2] ^= state_[0];
  state_[3] ^= state_[1];
  state_[1] ^= state_[2];
  state_[0] ^= state_[3];
  state_[2] ^= shifted;
  state_[3] = std::rotl(state_[3], 45);
  return result;
}

double Rng::Uniform() { return static_cast<double>((Next() >> 11) + 1) * 0x1.0p-53; }

int64_t Rng::UniformInt(int64_t low, int64_t high) {
  BATON_CHECK(low <= high) << low << " > " << high;
  const uint64_t span = static_cast<uint64_t>(high - low) + 1;
  if (span == 0) return static_cast<int64_t>(Next());
  // Multiply-shift; the bias is below 2^-32 for spans that fit 32 bits.
  const auto wide = static_cast<unsigned __int128>(Next()) * span;
  return low + static_cast<int64_t>(static_cast<uint64_t>(wide >> 64));
}

double Rng::Exponential() { return -std::log(Uniform()); }

double Rng::Normal() {
  // Box and Muller; the second value is thrown away so that a draw has no hidden state.
  const double radius = std::sqrt(-2 * std::log(Uniform()));
  return radius * std::cos(2 * std::numbers::pi * Uniform());
}

double Rng::Gamma(double shape) {
  BATON_CHECK(shape > 0) << shape;
  // Marsaglia and Tsang (2000); below 1 by the power of a uniform.
  if (shape < 1) {
    const double power = std::pow(Uniform(), 1 / shape);
    return Gamma(shape + 1) * power;
  }
  const double d = shape - 1.0 / 3;
  const double c = 1 / std::sqrt(9 * d);
  while (true) {
    const double x = Normal();
    const double root = 1 + c * x;
    if (root <= 0) continue;
    const double v = root * root * root;
    if (std::log(Uniform()) < 0.5 * x * x + d - d * v + d * std::log(v)) return d * v;
  }
}

}  // namespace baton::load
