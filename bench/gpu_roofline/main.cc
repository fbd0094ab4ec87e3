// What one GPU reaches of its own limits, op by op and for whole steps of a model. Called by
// ../gpu_roofline.sh, once for each part, so that an error of the device in one leaves the others
// alone.
//
//   gpu_roofline device
//       says what there is; status 4: no GPU
//   gpu_roofline sizes --config FILE --out FILE
//       what peers are to measure, see sizes.h
//   gpu_roofline measure PART --config FILE --out FILE
//       PART: ceilings, row-ops, sampling, attention, products, load, steps, steps-without-graphs,
//       steps-dependent, steps-wgmma
//   gpu_roofline report DIR [--note TEXT] [--no-peer] [FAILURE…]
//       the table of DIR/*.part.json, and DIR/roofline.json; see table.h. --no-peer: none was asked
//       for
//
// --quick: tiny shapes. Status: 0; 1: something failed, and it is named; 2: wrong arguments; 3 (of
// report): all is there but a peer's rows.
#include <cstdio>
#include <string>
#include <utility>
#include <vector>

#include "absl/strings/match.h"
#include "absl/strings/str_cat.h"
#include "bench/gpu_roofline/parts.h"
#include "bench/gpu_roofline/row_json.h"
#include "bench/gpu_roofline/table.h"
#include "bench/gpu_roofline/timing.h"
#include "common/check.h"

namespace baton::roofline {
namespace {

constexpr int kFailed = 1;
constexpr int kWrongArguments = 2;
constexpr int kNoGpu = 4;

struct Arguments {
  std::vector<std::string> words;  // that are no options
  std::string config;
  std::string out;
  std::string note;      // of a report: what was measured, and when
  bool no_peer = false;  // of a report: none was asked for
  bool quick = false;
};

absl::StatusOr<Arguments> Parse(int argc, char** argv) {
  Arguments arguments;
  for (int i = 1; i < argc; ++i) {
    const std::string word = argv[i];
    std::string* value = word == "--config" ? &arguments.config
                         : word == "--out"  ? &arguments.out
                         : word == "--note" ? &arguments.note
                                            : nullptr;
    if (word == "--quick") {
      arguments.quick = true;
    } else if (word == "--no-peer") {
      arguments.no_peer = true;
    } else if (value != nullptr && i + 1 < argc) {
      *value = argv[++i];
    } else if (absl::StartsWith(word, "--")) {
      return absl::InvalidArgumentError(absl::StrCat(
          word, "; allowed: --config FILE, --out FILE, --note TEXT, --no-peer, --quick"));
    } else {
      arguments.words.push_back(word);
    }
  }
  if (arguments.words.empty()) {
    return absl::InvalidArgumentError("allowed: device, sizes, measure, report");
  }
  return arguments;
}

using Measure = absl::Status (*)(const CudaContext&, const Sizes&, Recorder*);
constexpr std::pair<const char*, Measure> kParts[] = {
    {kCeilingsPart, MeasureCeilings}, {"row-ops", MeasureRowOps},    {"sampling", MeasureSampling},
    {"attention", MeasureAttention},  {"products", MeasureProducts}, {"load", MeasureLoad}};
constexpr std::pair<const char*, StepWay> kStepParts[] = {
    {"steps", StepWay::kDefault},
    {"steps-without-graphs", StepWay::kNoGraphs},
    {"steps-dependent", StepWay::kDependent},
    {"steps-wgmma", StepWay::kWgmma}};

std::string Describe(const CudaDeviceInfo& info) {
  return absl::StrCat(info.name, ", sm_", info.compute_capability, ", ", info.multiprocessors,
                      " multiprocessors, ", info.memory_bytes >> 20, " MiB (",
                      info.free_bytes >> 20, " free), L2 ", info.l2_bytes >> 10, " KiB");
}

absl::Status RunPart(const std::string& name, const CudaContext& context, const Sizes& sizes,
                     Recorder* recorder) {
  for (const auto& [known, measure] : kParts) {
    if (name == known) return measure(context, sizes, recorder);
  }
  for (const auto& [known, way] : kStepParts) {
    if (name == known) return MeasureSteps(context, sizes, way, recorder);
  }
  return absl::InvalidArgumentError(absl::StrCat("no part ", name));
}

int Fail(const absl::Status& status, int code = kFailed) {
  std::fprintf(stderr, "gpu_roofline: %s\n", status.ToString().c_str());
  return code;
}

int RunMeasure(const Arguments& arguments, const CudaContext& context, const Sizes& sizes) {
  const std::string& name = arguments.words[1];
  Recorder recorder({.name = name,
                     .device = Describe(context.info()),
                     .emulated = absl::StrContains(context.info().name, "emulated")},
                    arguments.out);
  absl::Status status = WarmUp(context, sizes);
  if (status.ok()) status = RunPart(name, context, sizes, &recorder);
  const absl::Status written = recorder.Finish(status);
  if (!status.ok()) return Fail(status);
  if (!written.ok()) return Fail(written);
  return recorder.num_failed() > 0 ? kFailed : 0;
}

int RunReport(const Arguments& arguments) {
  const std::string& directory = arguments.words[1];
  absl::StatusOr<std::vector<Part>> parts = ReadParts(directory);
  if (!parts.ok()) return Fail(parts.status());
  parts->insert(parts->begin(), {.name = "run", .device = arguments.note});
  const Report report = MakeReport(*parts, {arguments.words.begin() + 2, arguments.words.end()},
                                   /*peer_wanted=*/!arguments.no_peer);
  std::fputs(report.text.c_str(), stdout);
  const absl::Status written = WriteFile(absl::StrCat(directory, "/roofline.json"), report.json);
  return written.ok() ? static_cast<int>(report.outcome) : Fail(written);
}

int Main(int argc, char** argv) {
  const absl::StatusOr<Arguments> arguments = Parse(argc, argv);
  if (!arguments.ok()) return Fail(arguments.status(), kWrongArguments);
  const std::vector<std::string>& words = arguments->words;
  const std::string& command = words[0];
  if (command == "report" && words.size() >= 2) return RunReport(*arguments);
  const bool measures = command == "measure" && words.size() == 2;
  const bool lists = command == "sizes" && words.size() == 1;
  const bool has_files = !arguments->config.empty() && !arguments->out.empty();
  if (command != "device" && !((measures || lists) && has_files)) {
    return Fail(absl::InvalidArgumentError("see the head of bench/gpu_roofline/main.cc"),
                kWrongArguments);
  }
  const absl::StatusOr<std::unique_ptr<CudaContext>> context = CudaContext::Create(0);
  if (!context.ok()) {
    return Fail(context.status(), absl::IsNotFound(context.status()) ? kNoGpu : kFailed);
  }
  if (command == "device") {
    std::printf("%s\n", Describe((*context)->info()).c_str());
    return 0;
  }
  const absl::StatusOr<Sizes> sizes =
      MakeSizes(arguments->config, arguments->quick, (*context)->info().l2_bytes);
  if (!sizes.ok()) return Fail(sizes.status());
  if (measures) return RunMeasure(*arguments, **context, *sizes);
  const absl::Status written = WriteFile(arguments->out, SizesJson(*sizes));
  return written.ok() ? 0 : Fail(written);
}

}  // namespace
}  // namespace baton::roofline

int main(int argc, char** argv) { return baton::roofline::Main(argc, argv); }
