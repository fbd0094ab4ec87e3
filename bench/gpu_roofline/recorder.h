// Where a process puts what it measured: on the screen at once, and into its file after each row,
// so that what ends it early costs only what was to follow.
#pragma once

#include <string>
#include <vector>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "bench/gpu_roofline/row.h"

namespace baton::roofline {

class Recorder {
 public:
  // `path`: the file; see row_json.h.
  Recorder(Part part, std::string path);

  // Takes a row with its samples, or with why there are none.
  void Add(Row row, absl::StatusOr<std::vector<double>> samples_ms);
  // That the part ends, and with what: the file is whole then.
  absl::Status Finish(const absl::Status& status);
  int32_t num_failed() const { return num_failed_; }

 private:
  void Write();

  Part part_;
  const std::string path_;
  absl::Status written_;  // the first error
  int32_t num_failed_ = 0;
};

}  // namespace baton::roofline
