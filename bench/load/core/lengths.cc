#include "bench/load/core/lengths.h"

#include <algorithm>
#include <cmath>
#include <utility>
#include <vector>

#include "absl/strings/numbers.h"
#include "absl/strings/str_cat.h"
#include "absl/strings/str_split.h"
#include "common/check.h"
#include "common/strings.h"

namespace baton::load {
namespace {

constexpr double kLongest = 10'000'000;

absl::Status Bad(std::string_view text, std::string_view why) {
  return absl::InvalidArgumentError(
      absl::StrCat("lengths: \"", View(text), "\": ", View(why),
                   "; expected fixed:P/O, uniform:P1-P2/O1-O2, lognormal:MEDIAN,SIGMA/MEDIAN,SIGMA "
                   "or trace"));
}

// One side of the slash. `separator` 0: one number.
absl::StatusOr<LengthSpec::Side> ParseSide(std::string_view text, std::string_view side,
                                           LengthKind kind) {
  const char separator = kind == LengthKind::kUniform ? '-' : ',';
  const std::vector<std::string> words = kind == LengthKind::kFixed
                                             ? std::vector<std::string>{std::string(side)}
                                             : absl::StrSplit(View(side), separator);
  const size_t expected = kind == LengthKind::kFixed ? 1 : 2;
  if (words.size() != expected) return Bad(text, absl::StrCat("cannot read \"", View(side), "\""));
  LengthSpec::Side parsed;
  double* const fields[] = {&parsed.a, &parsed.b};
  for (size_t i = 0; i < expected; ++i) {
    if (!absl::SimpleAtod(words[i], fields[i]) || !std::isfinite(*fields[i])) {
      return Bad(text, absl::StrCat("\"", words[i], "\" is not a number"));
    }
  }
  if (parsed.a < 1 || parsed.a > kLongest) {
    return Bad(text, absl::StrCat(parsed.a, " tokens is not in 1 to 10000000"));
  }
  if (kind == LengthKind::kUniform && (parsed.b < parsed.a || parsed.b > kLongest)) {
    return Bad(text, absl::StrCat(parsed.a, "-", parsed.b, " is not a range"));
  }
  if (kind == LengthKind::kLognormal && (parsed.b < 0 || parsed.b > 5)) {
    return Bad(text, absl::StrCat("sigma ", parsed.b, " is not in 0 to 5"));
  }
  return parsed;
}

double Draw(LengthKind kind, const LengthSpec::Side& side, Rng& rng) {
  switch (kind) {
    case LengthKind::kUniform:
      return static_cast<double>(
          rng.UniformInt(static_cast<int64_t>(side.a), static_cast<int64_t>(side.b)));
    case LengthKind::kLognormal:
      return side.a * std::exp(side.b * rng.Normal());
    default:
      return side.a;
  }
}

int32_t ToTokens(double tokens) {
  return static_cast<int32_t>(std::clamp(std::round(tokens), 1.0, kLongest));
}

}  // namespace

absl::StatusOr<LengthSpec> ParseLengths(std::string_view text) {
  LengthSpec spec;
  if (text == "trace") {
    spec.kind = LengthKind::kTrace;
    return spec;
  }
  const std::pair<std::string_view, LengthKind> kinds[] = {{"fixed:", LengthKind::kFixed},
                                                           {"uniform:", LengthKind::kUniform},
                                                           {"lognormal:", LengthKind::kLognormal}};
  for (const auto& [prefix, kind] : kinds) {
    if (!text.starts_with(prefix)) continue;
    const std::string_view sides = text.substr(prefix.size());
    const size_t slash = sides.find('/');
    if (slash == std::string_view::npos) return Bad(text, "no \"/\" between prompt and output");
    spec.kind = kind;
    ASSIGN_OR_RETURN(spec.prompt, ParseSide(text, sides.substr(0, slash), kind));
    ASSIGN_OR_RETURN(spec.output, ParseSide(text, sides.substr(slash + 1), kind));
    return spec;
  }
  return Bad(text, "unknown distribution");
}

Lengths DrawLengths(const LengthSpec& spec, double scale, Rng& rng) {
  BATON_CHECK(spec.kind != LengthKind::kTrace);
  const double prompt = Draw(spec.kind, spec.prompt, rng);
  const double output = Draw(spec.kind, spec.output, rng);
  return {ToTokens(prompt * scale), ToTokens(output * scale)};
}

Lengths ScaleLengths(const Lengths& lengths, double scale) {
  return {ToTokens(lengths.prompt_tokens * scale), ToTokens(lengths.output_tokens * scale)};
}

}  // namespace baton::load
