// Parts as JSON files, between the processes that measure and the one that prints. peer.py writes
// the same form.
//
//   {"part": "products", "device": "…", "note": "…", "emulated": false, "error": "", "rows": […]}
//   a row: {"name": "…", "variant": "", "samples_ms": […], "bytes": 0, "flop": 0, "bus_bytes": 0,
//           "target_ms": 0, "target_share": 0, "error": ""}
#pragma once

#include <string>
#include <vector>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "bench/gpu_roofline/row.h"

namespace baton::roofline {

std::string PartToJson(const Part& part);
// INVALID_ARGUMENT says what is wrong. Fields other than "part" may be missing.
absl::StatusOr<Part> PartFromJson(const std::string& text);

absl::Status WriteFile(const std::string& path, const std::string& text);
// The *.part.json of a directory, in the order of their names. A file that cannot be read becomes a
// part with an error.
absl::StatusOr<std::vector<Part>> ReadParts(const std::string& directory);

}  // namespace baton::roofline
