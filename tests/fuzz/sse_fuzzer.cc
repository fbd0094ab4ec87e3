// Event streams and the JSON in them, as the load generator reads them. The events are those that
// a reader of whole lines finds, however the stream is cut; JSON is taken exactly when nlohmann's
// parser takes it.
#include <algorithm>
#include <cstdint>
#include <nlohmann/json.hpp>
#include <string>
#include <vector>

#include "bench/load/core/json_cursor.h"
#include "bench/load/core/sse_parser.h"
#include "bench/load/core/stream_reader.h"
#include "common/check.h"
#include "engine/tokenizer/unicode/utf8.h"
#include "tests/fuzz/pieces.h"

namespace baton {
namespace {

constexpr int kDeepestSure = 99;  // JsonCursor refuses what is nested deeper

std::vector<std::string> Events(const std::vector<std::string_view>& pieces) {
  std::vector<std::string> events;
  load::SseParser parser([&events](std::string_view data) {
    events.emplace_back(data);
    return true;
  });
  for (const std::string_view piece : pieces) BATON_CHECK(parser.Push(piece));
  parser.Finish();
  BATON_CHECK(!parser.overflowed());
  return events;
}

// The same by the letter: lines, then events.
std::vector<std::string> PlainEvents(std::string_view text) {
  std::vector<std::string> events;
  std::string data;
  bool any = false;
  const auto end = [&] {
    if (any) events.push_back(data);
    data.clear();
    any = false;
  };
  while (!text.empty()) {
    const size_t newline = text.find('\n');
    std::string_view line = text.substr(0, newline);
    text.remove_prefix(newline == std::string_view::npos ? text.size() : newline + 1);
    if (line.ends_with('\r')) line.remove_suffix(1);
    if (line.empty()) end();
    if (!line.starts_with("data:")) continue;
    line.remove_prefix(line.starts_with("data: ") ? 6 : 5);
    if (any) data += '\n';
    data += line;
    any = true;
  }
  end();
  return events;
}

int DepthOf(std::string_view text) {
  int depth = 0, deepest = 0;
  for (const char c : text) {
    if (c == '[' || c == '{') deepest = std::max(deepest, ++depth);
    if (c == ']' || c == '}') --depth;
  }
  return deepest;
}

// An escape of half a surrogate pair at least: RFC 8259 has it without the other half too, and so
// have servers' answers; nlohmann's parser has not.
bool HasSurrogateEscape(std::string_view text) {
  for (size_t at = text.find("\\u"); at != std::string_view::npos; at = text.find("\\u", at + 2)) {
    const std::string_view code = text.substr(at + 2, 2);
    if (code.size() == 2 && (code[0] == 'd' || code[0] == 'D') &&
        std::string_view("89abcdefABCDEF").find(code[1]) != std::string_view::npos) {
      return true;
    }
  }
  return false;
}

void CheckJson(std::string_view text) {
  load::JsonCursor cursor(text);
  cursor.Skip();
  const bool taken = cursor.AtEnd();
  // It does not look at UTF-8; nlohmann's parser steps over a byte order mark and ends at a NUL.
  if (!IsValidUtf8(text) || text.starts_with("\xef\xbb\xbf")) return;
  if (text.find('\0') != std::string_view::npos) return;
  if (HasSurrogateEscape(text)) return;
  if (DepthOf(text) > kDeepestSure) return;
  bool accepted = true;
  try {
    (void)nlohmann::json::parse(text);
  } catch (const nlohmann::json::out_of_range&) {
    return;  // a number that no double holds: valid JSON, but not for nlohmann's parser
  } catch (const nlohmann::json::exception&) {
    accepted = false;
  }
  BATON_CHECK(taken == accepted) << taken << ": " << text;
}

load::RequestRecord Record(const std::vector<std::string_view>& pieces) {
  load::RequestRecord record;
  record.asked_tokens = 64;
  load::StreamReader reader(&record);
  for (const std::string_view piece : pieces) reader.OnBody(piece, 1);
  reader.OnEnd(2);
  return record;
}

void CheckRecords(std::string_view text, const load::RequestRecord& a,
                  const load::RequestRecord& b) {
  BATON_CHECK(a.outcome == b.outcome && a.detail == b.detail) << a.detail << " / " << b.detail;
  BATON_CHECK(a.output_tokens == b.output_tokens) << a.output_tokens << ' ' << b.output_tokens;
  BATON_CHECK(a.output_tokens >= 0 &&
              (a.outcome != load::Outcome::kOk || a.output_tokens <= a.asked_tokens))
      << a.output_tokens;
  BATON_CHECK(a.cached_tokens == b.cached_tokens && a.cached_tokens >= -1) << a.cached_tokens;
  BATON_CHECK(a.reported_prompt_tokens == b.reported_prompt_tokens);
  // Where events have no ids, the last usage may say that there were more or fewer tokens.
  const bool counted = a.exact_count && (text.find("completion_tokens") != std::string_view::npos ||
                                         text.find('\\') != std::string_view::npos);
  const size_t gaps = a.output_tokens > 0 ? static_cast<size_t>(a.output_tokens) - 1 : 0;
  BATON_CHECK(a.gaps_ms.size() == gaps || counted || a.outcome != load::Outcome::kOk)
      << a.gaps_ms.size();
}

}  // namespace
}  // namespace baton

extern "C" int LLVMFuzzerTestOneInput(const uint8_t* data, size_t size) {
  using namespace baton;  // NOLINT
  const std::string_view text = TextOf(data, size);
  const std::vector<std::string> events = Events({text});
  BATON_CHECK(events == PlainEvents(text)) << events.size();
  BATON_CHECK(events == Events(PiecesOf(text)));
  for (const std::string& event : events) CheckJson(event);
  CheckJson(text);
  CheckRecords(text, Record({text}), Record(PiecesOf(text)));
  return 0;
}
