// Turns the bytes of one streamed answer into a RequestRecord. Pure: it is handed the time.
//
// How tokens are counted, settled by the first event that carries one:
//   usage   the event tells the tokens so far (continuous_usage_stats): exact
//   ids     the event lists token ids: exact
//   text    the event has text: one token each; the count at the end is the final usage's, if told
//
// How an answer ends (each settles the record once; what comes later is not looked at):
//   [DONE] after tokens            ok
//   [DONE] without a token         no_tokens
//   more tokens than asked for     too_many_tokens
//   an event with "error"          server_error
//   an event that is not ours      bad_json
//   the body's end before [DONE]   no_done
//   anything from outside          Settle
#pragma once

#include <cstdint>
#include <string>
#include <string_view>

#include "bench/load/core/record.h"
#include "bench/load/core/sse_parser.h"

namespace baton::load {

// What one event says; see ReadEvent.
struct StreamEvent {
  bool has_choices = false;  // at least one
  bool has_text = false;     // of any choice, not empty
  bool has_error = false;
  std::string error;               // its message, escapes as they stand
  int64_t token_ids = -1;          // listed by the choices; -1: no list
  int64_t completion_tokens = -1;  // usage; -1: not told
  int64_t prompt_tokens = -1;
  int64_t cached_tokens = -1;
  std::optional<ServerTimings> timings;
};

// False: not JSON, or nothing that an event of a completion has.
bool ReadEvent(std::string_view data, StreamEvent* event);

class StreamReader {
 public:
  // Fills `record`, which must outlive the reader.
  explicit StreamReader(RequestRecord* record);
  StreamReader(const StreamReader&) = delete;
  StreamReader& operator=(const StreamReader&) = delete;

  // Body bytes that were read at `now_ms`.
  void OnBody(std::string_view bytes, double now_ms);
  // The body is complete.
  void OnEnd(double now_ms);
  // Ends the record for a reason outside the body. No effect once settled.
  void Settle(Outcome outcome, std::string detail, double now_ms);
  bool settled() const { return settled_; }

 private:
  enum class Counting { kUnknown, kUsage, kIds, kText };

  bool OnData(std::string_view data);
  bool OnEvent(const StreamEvent& event);
  int64_t NewTokens(const StreamEvent& event);
  void AddTokens(int64_t count);
  void OnDone();

  RequestRecord* record_;
  SseParser parser_;
  Counting counting_ = Counting::kUnknown;
  int64_t last_usage_ = -1;
  double now_ms_ = 0;
  bool settled_ = false;
};

}  // namespace baton::load
