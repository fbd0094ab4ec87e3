// What admission said of a request.
#pragma once

#include <array>
#include <string_view>

namespace baton::router {

enum class Verdict {
  kAdmit,
  kFloor,      // an objective that an idle cluster would miss
  kTtft,       // the predicted TTFT misses
  kTpot,       // the predicted TPOT misses
  kDeadline,   // the first token would come after the deadline
  kShed,       // admitted, and later put out for a class that is kept longer
  kQueueFull,  // in requests or in bytes
};
inline constexpr std::array kAllVerdicts = {Verdict::kAdmit,    Verdict::kFloor,    Verdict::kTtft,
                                            Verdict::kTpot,     Verdict::kDeadline, Verdict::kShed,
                                            Verdict::kQueueFull};
std::string_view VerdictName(Verdict verdict);  // "admitted", "floor", "ttft", …

}  // namespace baton::router
