// What the run asks of each request: classes with a share of the traffic and two objectives.
#pragma once

#include <limits>
#include <string>
#include <string_view>
#include <vector>

#include "absl/status/statusor.h"

namespace baton::load {

inline constexpr double kNoBound = std::numeric_limits<double>::infinity();

struct Slo {
  double ttft_ms = kNoBound;
  double tpot_ms = kNoBound;  // does not apply to a request with one output token
};

struct SloClass {
  std::string name;  // sent as x-slo-class; empty: no header
  double share = 1;  // of the requests; over all classes the shares sum to 1
  Slo slo;
};

// "TTFT_MS:TPOT_MS"; "-" is no bound.
absl::StatusOr<Slo> ParseSlo(std::string_view text);

// "NAME=SHARE,TTFT_MS,TPOT_MS". The share is as written, see NormalizeShares.
absl::StatusOr<SloClass> ParseSloClass(std::string_view text);

// Divides each share by their sum; refuses two classes of one name.
absl::Status NormalizeShares(std::vector<SloClass>* classes);

// Both objectives times `factor`.
Slo Scale(const Slo& slo, double factor);

}  // namespace baton::load
