// Readers of public request traces. A row that cannot be read is an error that says where it stands
// and what is wrong with it; no row is skipped silently.
#pragma once

#include <cstdint>
#include <string>
#include <string_view>
#include <vector>

#include "absl/status/statusor.h"
#include "absl/time/time.h"
#include "bench/load/core/lengths.h"

namespace baton::load {

struct TraceRow {
  absl::Duration at;  // since the first row
  Lengths lengths;
  // Names of the prompt's blocks of kTraceBlockTokens tokens: rows that begin with the same names
  // begin with the same tokens. Empty: the trace does not say.
  std::vector<int64_t> block_ids;
};

// Mooncake hashes blocks of this many tokens.
inline constexpr int32_t kTraceBlockTokens = 512;

// `TIMESTAMP,ContextTokens,GeneratedTokens` with a header line, as in Azure/AzurePublicDataset.
// `file` is only for messages ("trace.csv:12: …").
absl::StatusOr<std::vector<TraceRow>> ParseAzureCsv(std::string_view text, const std::string& file);

// One JSON object a line: timestamp (ms), input_length, output_length, hash_ids, as in Mooncake's
// FAST'25 release.
absl::StatusOr<std::vector<TraceRow>> ParseMooncakeJsonl(std::string_view text,
                                                         const std::string& file);

// Reads the file and picks the format by its first character: `{` is JSONL.
absl::StatusOr<std::vector<TraceRow>> ReadTrace(const std::string& path);

}  // namespace baton::load
