#include "bench/load/core/stream_reader.h"

#include <algorithm>
#include <utility>

#include "absl/strings/str_cat.h"
#include "bench/load/core/json_cursor.h"
#include "common/strings.h"

namespace baton::load {
namespace {

constexpr size_t kShownBytes = 120;

std::string Shown(std::string_view text) {
  std::string shown(text.substr(0, kShownBytes));
  for (char& c : shown) {
    if (static_cast<unsigned char>(c) < 0x20) c = ' ';
  }
  return text.size() > kShownBytes ? shown + "…" : shown;
}

void ReadCount(JsonCursor& cursor, int64_t* count) {
  double value = 0;
  if (cursor.ReadNumber(&value) && value >= 0 && value < 1e15) {
    *count = static_cast<int64_t>(value);
  }
}

void ReadText(JsonCursor& cursor, StreamEvent* event) {
  std::string_view raw;
  if (cursor.ReadString(&raw) && !raw.empty()) event->has_text = true;
}

void ReadDelta(JsonCursor& cursor, StreamEvent* event) {
  if (!cursor.EnterObject()) return cursor.Skip();
  std::string_view key;
  while (cursor.NextKey(&key)) {
    // Some servers stream a model's reasoning under a name of its own: those are tokens too.
    if (key == "content" || key == "reasoning_content" || key == "reasoning") {
      ReadText(cursor, event);
    } else {
      cursor.Skip();
    }
  }
}

void ReadIds(JsonCursor& cursor, StreamEvent* event) {
  if (!cursor.EnterArray()) return cursor.Skip();
  event->token_ids = std::max<int64_t>(event->token_ids, 0);
  while (cursor.NextItem()) {
    cursor.Skip();
    ++event->token_ids;
  }
}

void ReadChoices(JsonCursor& cursor, StreamEvent* event) {
  if (!cursor.EnterArray()) return cursor.Skip();
  while (cursor.NextItem()) {
    event->has_choices = true;
    if (!cursor.EnterObject()) {
      cursor.Skip();
      continue;
    }
    std::string_view key;
    while (cursor.NextKey(&key)) {
      if (key == "text") {
        ReadText(cursor, event);
      } else if (key == "delta") {
        ReadDelta(cursor, event);
      } else if (key == "token_ids") {
        ReadIds(cursor, event);
      } else {
        cursor.Skip();
      }
    }
  }
}

void ReadUsage(JsonCursor& cursor, StreamEvent* event) {
  if (!cursor.EnterObject()) return cursor.Skip();
  std::string_view key;
  while (cursor.NextKey(&key)) {
    if (key == "completion_tokens") {
      ReadCount(cursor, &event->completion_tokens);
    } else if (key == "prompt_tokens") {
      ReadCount(cursor, &event->prompt_tokens);
    } else if (key == "prompt_tokens_details" && cursor.EnterObject()) {
      while (cursor.NextKey(&key)) {
        if (key == "cached_tokens") {
          ReadCount(cursor, &event->cached_tokens);
        } else {
          cursor.Skip();
        }
      }
    } else {
      cursor.Skip();
    }
  }
}

void ReadTimings(JsonCursor& cursor, StreamEvent* event) {
  if (!cursor.EnterObject()) return cursor.Skip();
  ServerTimings timings;
  const std::pair<std::string_view, double*> fields[] = {
      {"queue_ms", &timings.queue_ms},
      {"reserve_ms", &timings.reserve_ms},
      {"prefill_ms", &timings.prefill_ms},
      {"transfer_ms", &timings.transfer_ms},
      {"transfer_exposed_ms", &timings.transfer_exposed_ms},
      {"decode_queue_ms", &timings.decode_queue_ms},
      {"decode_ms", &timings.decode_ms},
      {"ttft_ms", &timings.ttft_ms}};
  std::string_view key;
  while (cursor.NextKey(&key)) {
    const auto field = std::find_if(std::begin(fields), std::end(fields),
                                    [&](const auto& entry) { return entry.first == key; });
    if (field == std::end(fields)) {
      cursor.Skip();
    } else {
      (void)cursor.ReadNumber(field->second);
    }
  }
  event->timings = timings;
}

void ReadError(JsonCursor& cursor, StreamEvent* event) {
  event->has_error = true;
  std::string_view raw;
  if (!cursor.EnterObject()) {
    if (cursor.ReadString(&raw)) event->error = Shown(raw);
    return;
  }
  std::string_view key;
  while (cursor.NextKey(&key)) {
    if (key == "message" && cursor.ReadString(&raw)) {
      event->error = Shown(raw);
    } else if (key != "message") {
      cursor.Skip();
    }
  }
}

}  // namespace

bool ReadEvent(std::string_view data, StreamEvent* event) {
  JsonCursor cursor(data);
  if (!cursor.EnterObject()) return false;
  bool known = false;
  std::string_view key;
  while (cursor.NextKey(&key)) {
    if (key == "choices") {
      known = true;
      ReadChoices(cursor, event);
    } else if (key == "usage") {
      known = true;
      ReadUsage(cursor, event);
    } else if (key == "timings") {
      ReadTimings(cursor, event);
    } else if (key == "error") {
      known = true;
      ReadError(cursor, event);
    } else {
      cursor.Skip();
    }
  }
  return cursor.AtEnd() && known;
}

StreamReader::StreamReader(RequestRecord* record)
    : record_(record), parser_([this](std::string_view data) { return OnData(data); }) {}

void StreamReader::OnBody(std::string_view bytes, double now_ms) {
  if (settled_) return;
  now_ms_ = now_ms;
  if (!parser_.Push(bytes) && parser_.overflowed()) {
    Settle(Outcome::kBadJson, "an event of more than 4 MiB", now_ms);
  }
}

void StreamReader::OnEnd(double now_ms) {
  if (settled_) return;
  now_ms_ = now_ms;
  (void)parser_.Finish();
  Settle(Outcome::kNoDone,
         absl::StrCat("the stream ended without [DONE] after ", record_->output_tokens, " tokens"),
         now_ms);
}

void StreamReader::Settle(Outcome outcome, std::string detail, double now_ms) {
  if (settled_) return;
  settled_ = true;
  record_->outcome = outcome;
  record_->detail = std::move(detail);
  record_->end_ms = now_ms;
}

bool StreamReader::OnData(std::string_view data) {
  if (data == "[DONE]") {
    OnDone();
    return false;
  }
  StreamEvent event;
  if (!ReadEvent(data, &event)) {
    Settle(Outcome::kBadJson, Shown(data), now_ms_);
    return false;
  }
  return OnEvent(event);
}

bool StreamReader::OnEvent(const StreamEvent& event) {
  if (event.has_error) {
    Settle(Outcome::kServerError, event.error, now_ms_);
    return false;
  }
  if (event.prompt_tokens >= 0) {
    record_->reported_prompt_tokens =
        static_cast<int32_t>(std::min<int64_t>(event.prompt_tokens, INT32_MAX));
  }
  if (event.cached_tokens >= 0) {
    record_->cached_tokens =
        static_cast<int32_t>(std::min<int64_t>(event.cached_tokens, INT32_MAX));
  }
  if (event.timings.has_value()) record_->timings = event.timings;
  if (event.completion_tokens >= 0) last_usage_ = event.completion_tokens;
  if (const int64_t count = NewTokens(event); count > 0) AddTokens(count);
  return !settled_;
}

int64_t StreamReader::NewTokens(const StreamEvent& event) {
  if (counting_ == Counting::kUnknown && event.has_choices) {
    if (event.completion_tokens > 0) {
      counting_ = Counting::kUsage;
    } else if (event.token_ids > 0) {
      counting_ = Counting::kIds;
    } else if (event.has_text) {
      counting_ = Counting::kText;
    }
  }
  switch (counting_) {
    case Counting::kUsage:
      return event.completion_tokens - record_->output_tokens;
    case Counting::kIds:
      return event.token_ids;
    case Counting::kText:
      return event.has_text ? 1 : 0;
    case Counting::kUnknown:
      return 0;
  }
  return 0;
}

void StreamReader::AddTokens(int64_t count) {
  const int64_t total = record_->output_tokens + count;
  // Texts are not quite tokens: leave room before calling it a lie, the final usage decides.
  const int64_t most = counting_ == Counting::kText ? int64_t{record_->asked_tokens} * 2 + 16
                                                    : int64_t{record_->asked_tokens};
  if (total > most) {
    Settle(Outcome::kTooManyTokens,
           absl::StrCat(total, " tokens, ", record_->asked_tokens, " asked for"), now_ms_);
    return;
  }
  if (record_->output_tokens == 0) {
    record_->first_ms = now_ms_;
    record_->gaps_ms.reserve(static_cast<size_t>(std::min(record_->asked_tokens, 4096)));
    --count;
  } else {
    record_->gaps_ms.push_back(static_cast<float>(now_ms_ - record_->last_ms));
    --count;
  }
  record_->gaps_ms.insert(record_->gaps_ms.end(), static_cast<size_t>(count), 0.0f);
  record_->last_ms = now_ms_;
  record_->output_tokens = static_cast<int32_t>(total);
}

void StreamReader::OnDone() {
  record_->exact_count = counting_ == Counting::kUsage || counting_ == Counting::kIds;
  if (record_->output_tokens == 0) {
    Settle(Outcome::kNoTokens,
           last_usage_ > 0 ? absl::StrCat("usage says ", last_usage_, " tokens, no event had one")
                           : "the stream was empty",
           now_ms_);
    return;
  }
  if (counting_ == Counting::kText && last_usage_ > 0) {
    record_->output_tokens = static_cast<int32_t>(std::min<int64_t>(last_usage_, INT32_MAX));
    record_->exact_count = true;
  }
  if (record_->output_tokens > record_->asked_tokens) {
    Settle(Outcome::kTooManyTokens,
           absl::StrCat(record_->output_tokens, " tokens, ", record_->asked_tokens, " asked for"),
           now_ms_);
    return;
  }
  Settle(Outcome::kOk, "", now_ms_);
}

}  // namespace baton::load
