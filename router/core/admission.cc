#include "router/core/admission.h"

#include <algorithm>
#include <cmath>

#include "absl/strings/str_cat.h"
#include "absl/strings/str_format.h"

namespace baton::router {
namespace {

// Whole seconds, rounded up: that is what Retry-After can say.
absl::Duration RetryAfterMs(double ms) {
  return absl::Seconds(std::clamp<int64_t>(static_cast<int64_t>(std::ceil(ms / 1000)), 1, 60));
}

AdmissionAnswer Impossible(const AdmissionQuestion& question, const char* metric, double objective,
                           double floor_ms) {
  return {.verdict = Verdict::kFloor,
          .message = absl::StrFormat(
              "the %s objective of %g ms (class %s) cannot be met: an idle cluster needs %.0f ms "
              "for this request's %d prompt tokens",
              metric, objective, question.slo_class, std::ceil(floor_ms), question.prompt_tokens),
          .retry_after = absl::Seconds(60)};
}

AdmissionAnswer Overloaded(Verdict verdict, const char* metric, double predicted, double objective,
                           double retry_ms) {
  return {.verdict = verdict,
          .message = absl::StrFormat(
              "overloaded: the predicted %s of %.0f ms misses the objective of %g ms", metric,
              std::ceil(predicted), objective),
          .retry_after = RetryAfterMs(retry_ms)};
}

}  // namespace

std::string_view VerdictName(Verdict verdict) {
  switch (verdict) {
    case Verdict::kAdmit:
      return "admitted";
    case Verdict::kFloor:
      return "floor";
    case Verdict::kTtft:
      return "ttft";
    case Verdict::kTpot:
      return "tpot";
    case Verdict::kDeadline:
      return "deadline";
    case Verdict::kShed:
      return "shed";
    case Verdict::kQueueFull:
      return "queue_full";
  }
  return "unknown";
}

AdmissionAnswer Judge(const AdmissionOptions& options, const AdmissionQuestion& question) {
  const Forecast& forecast = question.forecast;
  const SloTarget& slo = question.slo;
  const bool has_tpot = question.most_output > 1;
  const double floor_share = options.floor_share / (question.idle ? options.idle_reach : 1);
  if (forecast.floor_ttft_ms * floor_share > slo.ttft_ms) {
    return Impossible(question, "TTFT", slo.ttft_ms, forecast.floor_ttft_ms);
  }
  if (has_tpot && forecast.floor_tpot_ms * floor_share > slo.tpot_ms) {
    return Impossible(question, "TPOT", slo.tpot_ms, forecast.floor_tpot_ms);
  }
  const double ttft_ms = question.waited_ms + forecast.ttft_ms;
  if (ttft_ms > question.timeout_ms) {
    return Overloaded(Verdict::kDeadline, "TTFT", ttft_ms, question.timeout_ms,
                      ttft_ms - question.timeout_ms);
  }
  const bool waits = forecast.ttft_ms > options.idle_tolerance * forecast.floor_ttft_ms;
  if (waits && ttft_ms > options.slack * slo.ttft_ms) {
    return Overloaded(Verdict::kTtft, "TTFT", ttft_ms, slo.ttft_ms,
                      ttft_ms - options.slack * slo.ttft_ms);
  }
  // Longer prompts go before shorter ones that came earlier: those must still be in time.
  const double behind_ms =
      forecast.start_ms + question.prefill_ms + (1 - options.slack) * slo.ttft_ms;
  if (behind_ms > question.behind_ms) {
    return {.verdict = Verdict::kTtft,
            .message = absl::StrFormat("overloaded: these %d prompt tokens would make others miss "
                                       "their TTFT objectives that came before",
                                       question.prompt_tokens),
            .retry_after = RetryAfterMs(behind_ms - question.behind_ms)};
  }
  const bool crowded = forecast.tpot_ms > options.idle_tolerance * forecast.floor_tpot_ms;
  if (has_tpot && crowded && forecast.tpot_ms > slo.tpot_ms) {
    return Overloaded(Verdict::kTpot, "TPOT", forecast.tpot_ms, slo.tpot_ms,
                      forecast.tpot_relief_ms);
  }
  return {};
}

}  // namespace baton::router
