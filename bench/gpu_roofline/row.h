// One line of the table: what was measured, and what it is held against.
#pragma once

#include <string>
#include <vector>

#include "bench/gpu_roofline/work.h"

namespace baton::roofline {

struct Row {
  std::string name;
  std::vector<double> samples_ms;  // empty: `error` says why
  Work work;                       // none: there is no floor
  double target_ms = 0;            // 0: none
  double target_share = 0;         // of the measured floor's rate, 1 for all of it; 0: none
  std::string variant;             // how it was done: "wgmma", of a peer "flash"
  std::string error;
};

// What one process measured, in the order in which it did.
struct Part {
  std::string name;    // "products"; peers: "peer", "flashinfer"
  std::string device;  // "NVIDIA H100 80GB HBM3, sm_90, 132 multiprocessors"
  std::string note;    // what else is to be known of it: versions
  bool emulated = false;
  std::vector<Row> rows;
  std::string error;  // why there are no more rows; empty: there are all
};

// Rows of Part "ceilings" that set what others are held against.
inline constexpr char kCopyRow[] = "copy in device memory";
inline constexpr char kProductRow[] = "large product";
inline constexpr char kUploadRow[] = "copy from pinned memory";
inline constexpr char kPeerPart[] = "peer";  // PyTorch's
inline constexpr char kFlashInferPart[] = "flashinfer";
inline constexpr char kCeilingsPart[] = "ceilings";

// Its name, and how it was done.
std::string Label(const Row& row);
// The value below which `share` of the samples lie, between two of them if need be.
double Quantile(std::vector<double> samples, double share);
double MedianMs(const Row& row);
// The quartiles' distance over the median.
double Spread(const Row& row);

// What the rows of "ceilings" show; 0 for those that are not there.
Ceilings MeasuredCeilings(const std::vector<Part>& parts);

}  // namespace baton::roofline
