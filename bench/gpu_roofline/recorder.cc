#include "bench/gpu_roofline/recorder.h"

#include <cstdio>
#include <utility>

#include "bench/gpu_roofline/row_json.h"

namespace baton::roofline {

// Until Finish says otherwise.
Recorder::Recorder(Part part, std::string path) : part_(std::move(part)), path_(std::move(path)) {
  part_.error = "it ended early";
  Write();
}

void Recorder::Add(Row row, absl::StatusOr<std::vector<double>> samples_ms) {
  if (samples_ms.ok()) {
    row.samples_ms = *std::move(samples_ms);
    std::printf("%-50s %10.4f ms  (%.1f%%, %zu samples)\n", Label(row).c_str(), MedianMs(row),
                100 * Spread(row), row.samples_ms.size());
  } else {
    ++num_failed_;
    row.error = samples_ms.status().ToString();
    std::printf("%-50s FAILED: %s\n", Label(row).c_str(), row.error.c_str());
  }
  std::fflush(stdout);
  part_.rows.push_back(std::move(row));
  Write();
}

absl::Status Recorder::Finish(const absl::Status& status) {
  part_.error = status.ok() ? "" : status.ToString();
  Write();
  return written_;
}

void Recorder::Write() {
  const absl::Status written = WriteFile(path_, PartToJson(part_));
  if (written_.ok()) written_ = written;
}

}  // namespace baton::roofline
