// Whether a finished request met its objectives, and which stage spent the budget if not.
//
// TTFT and TPOT are measured at the router from arrival. TPOT = (last - first) / (n - 1) of the
// slowest sample. A request whose samples all have one token has no TPOT: TTFT alone judges it.
// Stage times are sums of intervals, each measured inside one process.
#pragma once

#include <array>
#include <cstdint>
#include <optional>
#include <string>
#include <string_view>

namespace baton::router {

struct SloTarget {
  double ttft_ms = 0;
  double tpot_ms = 0;
};

// What an operator promises to one kind of request. The first class of a list is the default one.
struct SloClass {
  std::string name = "default";
  SloTarget target{.ttft_ms = 2000, .tpot_ms = 200};
  double weight = 1;       // share of the cluster while several classes wait
  int32_t shed_order = 0;  // when not all can be served, classes with a larger number go first
};

enum class SloResult { kGood, kTtftMiss, kTpotMiss, kBoth, kError, kRejected, kAborted };
inline constexpr std::array kAllSloResults = {
    SloResult::kGood,  SloResult::kTtftMiss, SloResult::kTpotMiss, SloResult::kBoth,
    SloResult::kError, SloResult::kRejected, SloResult::kAborted};
std::string_view SloResultName(SloResult result);  // "good", "ttft_miss", …

enum class Stage { kQueue, kReserve, kPrefill, kTransfer, kDecodeQueue, kDecode };
inline constexpr std::array kAllStages = {Stage::kQueue,    Stage::kReserve,     Stage::kPrefill,
                                          Stage::kTransfer, Stage::kDecodeQueue, Stage::kDecode};
std::string_view StageName(Stage stage);  // "queue", "reserve", …

struct StageTimes {
  double queue_ms = 0;
  double reserve_ms = 0;
  double prefill_ms = 0;
  double transfer_ms = 0;
  double transfer_exposed_ms = 0;
  double decode_queue_ms = 0;
  double decode_ms = 0;
};

struct SloOutcome {
  SloResult result = SloResult::kError;
  std::optional<Stage> missed_stage;  // set for the three misses
  SloTarget target;
  int32_t slo_class = 0;  // place in the list of classes
};

// `tpot_ms` empty: no sample has a second token. A TTFT miss is charged to the longest stage before
// the first token, a TPOT miss alone to the longest after it (of the transfer only what compute did
// not hide).
SloOutcome JudgeSlo(const SloTarget& target, double ttft_ms, std::optional<double> tpot_ms,
                    const StageTimes& stages);

}  // namespace baton::router
