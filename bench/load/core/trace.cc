#include "bench/load/core/trace.h"

#include <fstream>
#include <nlohmann/json.hpp>
#include <optional>
#include <sstream>
#include <utility>

#include "absl/strings/ascii.h"
#include "absl/strings/numbers.h"
#include "absl/strings/str_cat.h"
#include "absl/strings/str_split.h"
#include "absl/time/civil_time.h"
#include "common/check.h"
#include "common/strings.h"

namespace baton::load {
namespace {

constexpr int64_t kLongestTokens = 10'000'000;
constexpr std::string_view kCsvHeader = "TIMESTAMP,ContextTokens,GeneratedTokens";

// Hands out lines without their ending and knows where it is.
class LineReader {
 public:
  LineReader(std::string_view text, const std::string& file) : rest_(text), file_(file) {}

  bool Next(std::string_view* line) {
    if (rest_.empty()) return false;
    const size_t end = rest_.find('\n');
    *line = rest_.substr(0, end);
    rest_ = end == std::string_view::npos ? std::string_view() : rest_.substr(end + 1);
    if (line->ends_with('\r')) line->remove_suffix(1);
    ++number_;
    return true;
  }
  absl::Status Bad(std::string_view why) const {
    return absl::InvalidArgumentError(absl::StrCat(file_, ":", number_, ": ", View(why)));
  }

 private:
  std::string_view rest_;
  const std::string& file_;
  int64_t number_ = 0;
};

// "2023-11-16 18:17:03.9799600", the zone left out: only differences matter.
std::optional<absl::Duration> ParseTimestamp(std::string_view text) {
  absl::CivilSecond second;
  const std::string whole(text.substr(0, 19));
  if (whole.size() != 19 || whole[10] != ' ' ||
      !absl::ParseCivilTime(whole.substr(0, 10) + "T" + whole.substr(11), &second)) {
    return std::nullopt;
  }
  const absl::Duration since_epoch =
      absl::FromCivil(second, absl::UTCTimeZone()) - absl::UnixEpoch();
  std::string_view rest = text.substr(19);
  if (rest.empty()) return since_epoch;
  double fraction = 0;
  if (rest[0] != '.' || rest.size() < 2 || rest.size() > 12 ||
      rest.find_first_not_of("0123456789", 1) != std::string_view::npos ||
      !absl::SimpleAtod(absl::StrCat("0", View(rest)), &fraction)) {
    return std::nullopt;
  }
  return since_epoch + absl::Seconds(fraction);
}

// A count of tokens in 1 to 10 million, or what is wrong with it.
std::string CountProblem(std::string_view column, int64_t value) {
  if (value >= 1 && value <= kLongestTokens) return "";
  return absl::StrCat(View(column), " is ", value, "; expected 1 to ", kLongestTokens);
}

std::string ParseCount(std::string_view column, std::string_view text, int32_t* count) {
  int64_t value = 0;
  if (!absl::SimpleAtoi(View(text), &value)) {
    return absl::StrCat(View(column), " is \"", View(text), "\", not a whole number");
  }
  *count = static_cast<int32_t>(value);
  return CountProblem(column, value);
}

// Makes times relative to the first row; they must not run backwards.
absl::Status Append(absl::Duration at, TraceRow row, const LineReader& lines,
                    std::optional<absl::Duration>* first, std::vector<TraceRow>* rows) {
  if (!first->has_value()) *first = at;
  row.at = at - **first;
  if (!rows->empty() && row.at < rows->back().at) {
    return lines.Bad("the timestamp is before that of the row above");
  }
  rows->push_back(std::move(row));
  return absl::OkStatus();
}

std::string JsonCount(const nlohmann::json& object, const char* key, int32_t* count) {
  const auto it = object.find(key);
  if (it == object.end()) return absl::StrCat("no ", key);
  if (!it->is_number_integer()) return absl::StrCat(key, " is not a whole number");
  const auto value = it->get<int64_t>();
  *count = static_cast<int32_t>(value);
  return CountProblem(key, value);
}

std::string JsonBlocks(const nlohmann::json& object, TraceRow* row) {
  const auto it = object.find("hash_ids");
  if (it == object.end()) return "";
  if (!it->is_array()) return "hash_ids is not a list";
  for (const auto& id : *it) {
    if (!id.is_number_integer()) return "hash_ids holds something that is not a whole number";
    row->block_ids.push_back(id.get<int64_t>());
  }
  const int64_t expected = (row->lengths.prompt_tokens + kTraceBlockTokens - 1) / kTraceBlockTokens;
  if (static_cast<int64_t>(row->block_ids.size()) == expected) return "";
  return absl::StrCat("hash_ids has ", row->block_ids.size(), " entries; input_length ",
                      row->lengths.prompt_tokens, " needs ", expected, ", one for each ",
                      kTraceBlockTokens, " tokens");
}

}  // namespace

absl::StatusOr<std::vector<TraceRow>> ParseAzureCsv(std::string_view text,
                                                    const std::string& file) {
  LineReader lines(text, file);
  std::vector<TraceRow> rows;
  std::optional<absl::Duration> first;
  std::string_view line;
  if (!lines.Next(&line) || !line.starts_with(kCsvHeader)) {
    return lines.Bad(absl::StrCat("expected the header ", View(kCsvHeader)));
  }
  while (lines.Next(&line)) {
    if (line.empty()) continue;
    const std::vector<std::string> cells = absl::StrSplit(View(line), ',');
    if (cells.size() != 3) {
      return lines.Bad(absl::StrCat("expected 3 columns, found ", cells.size()));
    }
    const auto at = ParseTimestamp(cells[0]);
    if (!at.has_value()) {
      return lines.Bad(
          absl::StrCat("TIMESTAMP is \"", cells[0], "\"; expected YYYY-MM-DD HH:MM:SS.fraction"));
    }
    TraceRow row;
    std::string problem = ParseCount("ContextTokens", cells[1], &row.lengths.prompt_tokens);
    if (problem.empty()) {
      problem = ParseCount("GeneratedTokens", cells[2], &row.lengths.output_tokens);
    }
    if (!problem.empty()) return lines.Bad(problem);
    RETURN_IF_ERROR(Append(*at, std::move(row), lines, &first, &rows));
  }
  if (rows.empty()) return lines.Bad("the trace has no rows");
  return rows;
}

absl::StatusOr<std::vector<TraceRow>> ParseMooncakeJsonl(std::string_view text,
                                                         const std::string& file) {
  LineReader lines(text, file);
  std::vector<TraceRow> rows;
  std::optional<absl::Duration> first;
  std::string_view line;
  while (lines.Next(&line)) {
    if (absl::StripAsciiWhitespace(View(line)).empty()) continue;
    const auto object = nlohmann::json::parse(line, nullptr, /*allow_exceptions=*/false);
    if (!object.is_object()) return lines.Bad("not a JSON object");
    const auto at = object.find("timestamp");
    if (at == object.end() || !at->is_number()) return lines.Bad("no timestamp in milliseconds");
    TraceRow row;
    std::string problem = JsonCount(object, "input_length", &row.lengths.prompt_tokens);
    if (problem.empty()) problem = JsonCount(object, "output_length", &row.lengths.output_tokens);
    if (problem.empty()) problem = JsonBlocks(object, &row);
    if (!problem.empty()) return lines.Bad(problem);
    RETURN_IF_ERROR(
        Append(absl::Milliseconds(at->get<double>()), std::move(row), lines, &first, &rows));
  }
  if (rows.empty()) return lines.Bad("the trace has no rows");
  return rows;
}

absl::StatusOr<std::vector<TraceRow>> ReadTrace(const std::string& path) {
  std::ifstream stream(path, std::ios::binary);
  std::ostringstream text;
  if (!stream || !(text << stream.rdbuf())) {
    return absl::InvalidArgumentError(absl::StrCat("trace: cannot read ", path));
  }
  const std::string content = text.str();
  if (content.starts_with('{')) return ParseMooncakeJsonl(content, path);
  return ParseAzureCsv(content, path);
}

}  // namespace baton::load
