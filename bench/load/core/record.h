// What is known of one request once it has ended. Times are milliseconds from the start of the run.
#pragma once

#include <array>
#include <cstdint>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

namespace baton::load {

// How a request ended. Only kOk has an answer worth measuring; nothing else can be good.
enum class Outcome {
  kOk,
  kRejected,       // 429 or 503
  kBadStatus,      // any other status than 200
  kServerError,    // an error event inside the stream
  kTimedOut,       // no end within the request's time
  kConnectFailed,  // no connection
  kDisconnected,   // the connection closed before the answer was complete
  kBadHttp,        // the answer is not HTTP
  kNotAStream,     // status 200, but not text/event-stream
  kBadJson,        // an event that is not the JSON of a completion
  kNoDone,         // the stream ended well, but without [DONE]
  kNoTokens,       // the stream was complete and empty
  kTooManyTokens,  // more tokens than asked for
  kAborted,        // the run was interrupted
};
inline constexpr std::array kAllOutcomes = {Outcome::kOk,
                                            Outcome::kRejected,
                                            Outcome::kBadStatus,
                                            Outcome::kServerError,
                                            Outcome::kTimedOut,
                                            Outcome::kConnectFailed,
                                            Outcome::kDisconnected,
                                            Outcome::kBadHttp,
                                            Outcome::kNotAStream,
                                            Outcome::kBadJson,
                                            Outcome::kNoDone,
                                            Outcome::kNoTokens,
                                            Outcome::kTooManyTokens,
                                            Outcome::kAborted};
std::string_view OutcomeName(Outcome outcome);  // "ok", "rejected", "timed_out", …

// Where the server says that the time went (`timings`); each interval measured by one process.
struct ServerTimings {
  double queue_ms = 0;
  double reserve_ms = 0;
  double prefill_ms = 0;
  double transfer_ms = 0;
  double transfer_exposed_ms = 0;
  double decode_queue_ms = 0;
  double decode_ms = 0;
  double ttft_ms = 0;
};

struct RequestRecord {
  int64_t index = 0;  // in the plan
  int32_t slo_class = 0;
  bool warmup = false;
  int32_t prompt_tokens = 0;  // planned
  int32_t asked_tokens = 0;

  Outcome outcome = Outcome::kAborted;
  int32_t http_status = 0;  // 0: no answer
  std::string detail;       // of a failure, one line

  double intended_ms = 0;
  double sent_ms = 0;   // handed to the socket, or the connection begun; late by the difference
  double first_ms = 0;  // the first event with a token; valid when output_tokens > 0
  double last_ms = 0;   // the last event with a token
  double end_ms = 0;

  int32_t output_tokens = 0;
  bool exact_count = false;  // the server told the count; else events with text are counted
  int32_t reported_prompt_tokens = -1;  // -1: not told
  int32_t cached_tokens = -1;           // -1: not told
  // [tokens - 1] one for each token after the first; tokens of one event are 0 apart.
  std::vector<float> gaps_ms;
  std::optional<ServerTimings> timings;

  double ttft_ms() const { return first_ms - intended_ms; }
  double e2e_ms() const { return end_ms - intended_ms; }
  double late_ms() const { return sent_ms - intended_ms; }
  // Empty below two tokens.
  std::optional<double> tpot_ms() const {
    if (output_tokens < 2) return std::nullopt;
    return (last_ms - first_ms) / (output_tokens - 1);
  }
};

// "rejected: HTTP 429", "timed_out", …: what failures are counted by.
std::string Reason(const RequestRecord& record);

}  // namespace baton::load
