#include "bench/gpu_roofline/table.h"

#include <algorithm>
#include <map>
#include <nlohmann/json.hpp>
#include <utility>

#include "absl/strings/str_cat.h"
#include "absl/strings/str_format.h"

namespace baton::roofline {
namespace {

using Json = nlohmann::ordered_json;

constexpr char kEmulated[] = "emulated: times mean nothing\n";

// By row name, then by variant.
using Variants = std::map<std::string, std::map<std::string, Row>>;

enum class Whose { kOurs, kTorch, kFlashInfer };
Whose WhoseOf(const Part& part) {
  return part.name == kPeerPart         ? Whose::kTorch
         : part.name == kFlashInferPart ? Whose::kFlashInfer
                                        : Whose::kOurs;
}

Variants Collect(const std::vector<Part>& parts, Whose whose) {
  Variants variants;
  for (const Part& part : parts) {
    if (WhoseOf(part) != whose) continue;
    for (const Row& row : part.rows) {
      Row& known = variants[row.name][row.variant];
      known.variant = row.variant;
      known.samples_ms.insert(known.samples_ms.end(), row.samples_ms.begin(), row.samples_ms.end());
      if (!row.error.empty()) known.error = row.error;
    }
  }
  return variants;
}

// The fastest variant that was measured; null: none was.
const Row* Fastest(const Variants& rows, const std::string& name) {
  const auto found = rows.find(name);
  if (found == rows.end()) return nullptr;
  const Row* fastest = nullptr;
  for (const auto& [variant, row] : found->second) {
    if (row.samples_ms.empty()) continue;
    if (fastest == nullptr || MedianMs(row) < MedianMs(*fastest)) fastest = &row;
  }
  return fastest;
}

bool AnyMeasured(const Variants& peers) {
  return std::ranges::any_of(
      peers, [&](const auto& entry) { return Fastest(peers, entry.first) != nullptr; });
}

struct Peers {
  Variants torch;
  Variants flashinfer;
};

// A row, held against everything.
struct Line {
  const Row* row = nullptr;
  double ms = 0;
  Floor floor;    // by the measured ceilings
  Floor nominal;  // by kNominal
  const Row* torch = nullptr;
  const Row* flashinfer = nullptr;
  double target_ms = 0;  // of either kind; 0: none
  bool Met() const { return ms <= target_ms; }
};

Line MakeLine(const Row& row, const Ceilings& measured, const Peers& peers) {
  Line line{.row = &row,
            .ms = MedianMs(row),
            .floor = FloorOf(row.work, measured),
            .nominal = FloorOf(row.work, kNominal),
            .torch = Fastest(peers.torch, row.name),
            .flashinfer = Fastest(peers.flashinfer, row.name),
            .target_ms = row.target_ms};
  if (row.target_share > 0 && line.floor.ms > 0) line.target_ms = line.floor.ms / row.target_share;
  return line;
}

// What it achieved of what binds it.
std::string RateOf(const Line& line) {
  const Bound bound = line.floor.bound != Bound::kNone ? line.floor.bound : line.nominal.bound;
  const double seconds = 1e-3 * line.ms;
  const Work& work = line.row->work;
  switch (bound) {
    case Bound::kNone:
      return "";
    case Bound::kBytes:
      return absl::StrFormat("%.0f GB/s", 1e-9 * work.bytes / seconds);
    case Bound::kFlop:
      return absl::StrFormat("%.1f TFLOP/s", 1e-12 * work.flop / seconds);
    case Bound::kBus:
      return absl::StrFormat("%.1f GB/s", 1e-9 * work.bus_bytes / seconds);
  }
  return "";
}

std::string Ms(double ms) { return ms > 0 ? absl::StrFormat("%.4g", ms) : ""; }
std::string Times(double a, double b) { return b > 0 ? absl::StrFormat("%.2f", a / b) : ""; }

std::string TargetOf(const Line& line) {
  if (line.target_ms <= 0) return "";
  const std::string target = line.row->target_share > 0
                                 ? absl::StrFormat("%.0f %%", 100 * line.row->target_share)
                                 : absl::StrFormat("%g ms", line.row->target_ms);
  return absl::StrCat(target, line.Met() ? " met" : " MISSED");
}

constexpr char kLineFormat[] = "%-50s %10s %7s %10s %7s %10s %14s %10s %7s %14s  %s\n";

std::string HeadOfPart(const Part& part) {
  return absl::StrFormat(kLineFormat, absl::StrCat("-- ", part.name), "ms", "spread", "floor ms",
                         "/floor", "nominal ms", "rate", "torch ms", "/torch", "target", "");
}

std::string FormatLine(const Line& line) {
  const Row& row = *line.row;
  if (row.samples_ms.empty()) return absl::StrFormat("%-50s FAILED: %s\n", Label(row), row.error);
  const double torch_ms = line.torch != nullptr ? MedianMs(*line.torch) : 0;
  return absl::StrFormat(kLineFormat, Label(row), Ms(line.ms),
                         absl::StrFormat("%.1f%%", 100 * Spread(row)), Ms(line.floor.ms),
                         Times(line.ms, line.floor.ms), Ms(line.nominal.ms), RateOf(line),
                         Ms(torch_ms), Times(line.ms, torch_ms), TargetOf(line),
                         line.torch != nullptr ? line.torch->variant : "");
}

Json LineJson(const Part& part, const Line& line) {
  if (line.row->samples_ms.empty()) {  // nothing that could be read as a time of 0
    Json failed = {{"part", part.name}, {"name", line.row->name}, {"error", line.row->error}};
    if (!line.row->variant.empty()) failed["variant"] = line.row->variant;
    if (line.row->target_ms > 0 || line.row->target_share > 0) failed["met"] = false;
    return failed;
  }
  Json json = {{"part", part.name},
               {"name", line.row->name},
               {"median_ms", line.ms},
               {"spread", Spread(*line.row)},
               {"samples", line.row->samples_ms.size()},
               {"floor_ms", line.floor.ms},
               {"nominal_floor_ms", line.nominal.ms},
               {"bytes", line.row->work.bytes},
               {"flop", line.row->work.flop},
               {"rate", RateOf(line)}};
  if (!line.row->variant.empty()) json["variant"] = line.row->variant;
  if (line.torch != nullptr) {
    json["torch_ms"] = MedianMs(*line.torch);
    json["torch_variant"] = line.torch->variant;
  }
  if (line.flashinfer != nullptr) {
    json["flashinfer_ms"] = MedianMs(*line.flashinfer);
    json["flashinfer_variant"] = line.flashinfer->variant;
  }
  if (line.target_ms > 0) {
    json["target_ms"] = line.target_ms;
    json["met"] = line.Met();
  }
  if (!line.row->error.empty()) json["error"] = line.row->error;
  return json;
}

std::string FormatCeilings(const Ceilings& measured) {
  return absl::StrFormat(
      "ceilings measured in this run: copy %.0f GB/s (read and written; nominal %.0f), product "
      "%.0f "
      "TFLOP/s (nominal %.0f), from the host %.1f GB/s\n",
      1e-9 * measured.bytes_per_s, 1e-9 * kNominal.bytes_per_s, 1e-12 * measured.flop_per_s,
      1e-12 * kNominal.flop_per_s, 1e-9 * measured.bus_bytes_per_s);
}

const char* WayOf(const Row& row) { return row.variant.empty() ? "default" : row.variant.c_str(); }

// Rows that were computed in several ways, which is fastest, and what could not be.
std::string FormatVariants(const char* head, const Variants& rows) {
  std::string text;
  for (const auto& [name, variants] : rows) {
    if (variants.size() < 2) continue;
    absl::StrAppendFormat(&text, "%-50s", name);
    for (const auto& [variant, row] : variants) {
      const std::string ms = row.samples_ms.empty() ? "no" : Ms(MedianMs(row));
      absl::StrAppend(&text, "  ", WayOf(row), " ", ms);
    }
    const Row* fastest = Fastest(rows, name);
    if (fastest != nullptr) absl::StrAppend(&text, "  -> ", WayOf(*fastest));
    text += '\n';
  }
  return text.empty() ? text : absl::StrCat(head, "\n", text);
}

// Where FlashInfer was measured: everyone's fastest way, and ours over the fastest of all.
std::string FormatByWhom(const Variants& ours, const Peers& peers) {
  std::string text;
  for (const auto& [name, variants] : peers.flashinfer) {
    const std::pair<const char*, const Row*> all[] = {
        {"ours", Fastest(ours, name)},
        {"PyTorch", Fastest(peers.torch, name)},
        {"FlashInfer", Fastest(peers.flashinfer, name)}};
    if (all[0].second == nullptr || all[2].second == nullptr) continue;
    absl::StrAppendFormat(&text, "%-50s", name);
    const auto* fastest = all;
    for (const auto& entry : all) {
      const auto& [who, row] = entry;
      if (row == nullptr) continue;
      absl::StrAppend(&text, "  ", who, " ", Ms(MedianMs(*row)), " (", WayOf(*row), ")");
      if (MedianMs(*row) < MedianMs(*fastest->second)) fastest = &entry;
    }
    absl::StrAppend(&text, "  -> ", fastest->first, ", ours / it ",
                    Times(MedianMs(*all[0].second), MedianMs(*fastest->second)), "\n");
  }
  return text.empty() ? text : absl::StrCat("-- by whom, ms\n", text);
}

// What FlashInfer did not do, and why: no failure of ours.
std::string FormatNotDone(const std::vector<Part>& parts) {
  std::string text;
  bool ran = false;
  for (const Part& part : parts) {
    if (WhoseOf(part) != Whose::kFlashInfer) continue;
    ran = true;
    for (const Row& row : part.rows) {
      if (!row.error.empty())
        absl::StrAppend(&text, "FlashInfer, ", Label(row), ": ", row.error, "\n");
    }
    if (!part.error.empty()) absl::StrAppend(&text, "FlashInfer: ", part.error, "\n");
  }
  return ran ? text : "FlashInfer was not measured\n";
}

void AddFailuresOf(const Part& part, std::vector<std::string>* failures) {
  if (WhoseOf(part) == Whose::kFlashInfer) return;  // FormatNotDone has them
  if (!part.error.empty()) failures->push_back(absl::StrCat(part.name, ": ", part.error));
  if (WhoseOf(part) == Whose::kTorch) return;  // what PyTorch cannot do is no failure of ours
  for (const Row& row : part.rows) {
    if (row.samples_ms.empty()) {
      failures->push_back(absl::StrCat(part.name, ", ", Label(row), ": ", row.error));
    }
  }
}

// On what it was measured, and with what, each once.
void AddNoteOf(const Part& part, std::vector<std::string>* notes) {
  if (part.device.empty()) return;
  const std::string prefix = WhoseOf(part) == Whose::kOurs ? "" : "peer: ";
  const std::string note =
      absl::StrCat(prefix, part.device, part.note.empty() ? "" : ", ", part.note);
  if (std::ranges::find(*notes, note) == notes->end()) notes->push_back(note);
}

}  // namespace

Report MakeReport(const std::vector<Part>& parts, const std::vector<std::string>& known_failures,
                  bool peer_wanted) {
  const Variants ours = Collect(parts, Whose::kOurs);
  const Peers peers{.torch = Collect(parts, Whose::kTorch),
                    .flashinfer = Collect(parts, Whose::kFlashInfer)};
  const Ceilings measured = MeasuredCeilings(parts);
  const bool emulated = std::ranges::any_of(parts, &Part::emulated);
  std::vector<std::string> failures = known_failures;
  Json rows = Json::array();
  std::vector<std::string> notes;
  std::string body;
  for (const Part& part : parts) {
    AddFailuresOf(part, &failures);
    AddNoteOf(part, &notes);
    if (WhoseOf(part) != Whose::kOurs || part.rows.empty()) continue;
    body += HeadOfPart(part);
    for (const Row& row : part.rows) {
      const Line line = MakeLine(row, measured, peers);
      body += FormatLine(line);
      rows.push_back(LineJson(part, line));
    }
  }
  Report report;
  if (rows.empty()) failures.push_back("nothing was measured");
  const bool peer_ran = AnyMeasured(peers.torch);
  if (!peers.torch.empty() && !peer_ran) failures.push_back("peer: none of its rows was measured");
  report.outcome = !failures.empty()          ? Outcome::kFailed
                   : peer_wanted && !peer_ran ? Outcome::kPeerNotRun
                                              : Outcome::kMeasured;
  const Json json = {{"emulated", emulated},
                     {"notes", notes},
                     {"copy_bytes_per_s", measured.bytes_per_s},
                     {"product_flop_per_s", measured.flop_per_s},
                     {"bus_bytes_per_s", measured.bus_bytes_per_s},
                     {"rows", rows},
                     {"failures", failures},
                     {"peer_ran", peer_ran},
                     {"flashinfer_ran", AnyMeasured(peers.flashinfer)}};
  report.json = json.dump(1);
  report.text = emulated ? kEmulated : "";
  for (const std::string& note : notes) absl::StrAppend(&report.text, note, "\n");
  absl::StrAppend(&report.text, FormatCeilings(measured), body,
                  FormatVariants("-- our ways, ms", ours),
                  FormatVariants("-- PyTorch's ways, ms", peers.torch),
                  FormatVariants("-- FlashInfer's ways, ms", peers.flashinfer),
                  FormatByWhom(ours, peers), FormatNotDone(parts));
  if (peers.torch.empty()) {
    report.text += peer_wanted ? "no PyTorch: peer not run\n" : "the peer was not asked for\n";
  }
  for (const std::string& failure : failures)
    absl::StrAppend(&report.text, "FAILED ", failure, "\n");
  if (emulated) report.text += kEmulated;
  return report;
}

}  // namespace baton::roofline
