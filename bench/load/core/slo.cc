#include "bench/load/core/slo.h"

#include <cmath>

#include "absl/strings/numbers.h"
#include "absl/strings/str_cat.h"
#include "absl/strings/str_split.h"
#include "common/check.h"
#include "common/strings.h"

namespace baton::load {
namespace {

absl::Status Bad(std::string_view option, std::string_view text, std::string_view expected) {
  return absl::InvalidArgumentError(absl::StrCat(View(option), ": \"", View(text),
                                                 "\" is not allowed; expected ", View(expected)));
}

bool ParseBound(std::string_view text, double* bound_ms) {
  if (text == "-") {
    *bound_ms = kNoBound;
    return true;
  }
  return absl::SimpleAtod(View(text), bound_ms) && std::isfinite(*bound_ms) && *bound_ms > 0;
}

}  // namespace

absl::StatusOr<Slo> ParseSlo(std::string_view text) {
  Slo slo;
  const size_t colon = text.find(':');
  if (colon == std::string_view::npos || !ParseBound(text.substr(0, colon), &slo.ttft_ms) ||
      !ParseBound(text.substr(colon + 1), &slo.tpot_ms)) {
    return Bad("slo", text, "TTFT_MS:TPOT_MS, both above 0, or - for no bound, as in 500:50");
  }
  return slo;
}

absl::StatusOr<SloClass> ParseSloClass(std::string_view text) {
  constexpr std::string_view kExpected = "NAME=SHARE,TTFT_MS,TPOT_MS, as in chat=0.7,500,50";
  SloClass slo_class;
  const size_t equals = text.find('=');
  if (equals == std::string_view::npos || equals == 0) return Bad("slo_class", text, kExpected);
  slo_class.name = std::string(text.substr(0, equals));
  for (const char c : slo_class.name) {
    // It becomes a header's value.
    if (c <= ' ' || c >= 127) return Bad("slo_class", text, "a name without spaces");
  }
  const std::vector<std::string> words = absl::StrSplit(View(text.substr(equals + 1)), ',');
  if (words.size() != 3 || !absl::SimpleAtod(words[0], &slo_class.share) ||
      !std::isfinite(slo_class.share) || slo_class.share <= 0 ||
      !ParseBound(words[1], &slo_class.slo.ttft_ms) ||
      !ParseBound(words[2], &slo_class.slo.tpot_ms)) {
    return Bad("slo_class", text, kExpected);
  }
  return slo_class;
}

absl::Status NormalizeShares(std::vector<SloClass>* classes) {
  double sum = 0;
  for (size_t i = 0; i < classes->size(); ++i) {
    for (size_t j = 0; j < i; ++j) {
      if ((*classes)[i].name != (*classes)[j].name) continue;
      return absl::InvalidArgumentError(
          absl::StrCat("slo_class: \"", (*classes)[i].name, "\" is given twice"));
    }
    sum += (*classes)[i].share;
  }
  for (SloClass& slo_class : *classes) slo_class.share /= sum;
  return absl::OkStatus();
}

Slo Scale(const Slo& slo, double factor) { return {slo.ttft_ms * factor, slo.tpot_ms * factor}; }

}  // namespace baton::load
