// The table: pure, from what the processes measured.
#pragma once

#include <string>
#include <vector>

#include "bench/gpu_roofline/row.h"

namespace baton::roofline {

enum class Outcome {
  kMeasured = 0,
  kFailed = 1,     // a part or a row is missing, and named
  kPeerNotRun = 3  // all is there but PyTorch's
};

struct Report {
  std::string text;
  std::string json;  // the same numbers, to be kept
  Outcome outcome = Outcome::kMeasured;
};

// A peer's rows belong to ours of the same name: of several variants the fastest counts, of several
// runs of a variant all samples. Columns hold ours against PyTorch, lines of their own against
// FlashInfer, too. `failures`: what the caller already knows to have failed. Missed targets are
// told, and are no failure. PyTorch that is not there is told too, and is an outcome of its own
// where it was wanted; FlashInfer that is not there, or does not work, is told.
Report MakeReport(const std::vector<Part>& parts, const std::vector<std::string>& failures,
                  bool peer_wanted = true);

}  // namespace baton::roofline
