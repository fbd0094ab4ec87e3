#include "cli/sweep_command.h"

#include <sched.h>

#include <cstdio>
#include <filesystem>
#include <string_view>
#include <utility>

#include "absl/strings/str_cat.h"
#include "absl/strings/str_join.h"
#include "absl/time/clock.h"
#include "bench/load/core/trace.h"
#include "bench/sweep/report/sweep_report.h"
#include "cli/command_line.h"
#include "cli/output_file.h"
#include "cli/signals.h"
#include "cli/sweep_lab.h"
#include "cli/version.h"
#include "cli/worker_settings.h"
#include "common/check.h"
#include "common/strings.h"

namespace baton {

extern const std::string_view kSweepModelConfig;

namespace {

namespace fs = std::filesystem;

// The CPUs that this process may run on.
std::vector<int32_t> AllowedCpus() {
  cpu_set_t set;
  CPU_ZERO(&set);
  std::vector<int32_t> cpus;
  if (sched_getaffinity(0, sizeof(set), &set) != 0) return cpus;
  for (int32_t cpu = 0; cpu < CPU_SETSIZE; ++cpu) {
    if (CPU_ISSET(cpu, &set)) cpus.push_back(cpu);
  }
  return cpus;
}

// A folder that goes away with its owner.
class TemporaryFolder {
 public:
  static absl::StatusOr<TemporaryFolder> Make() {
    std::string name = (fs::temp_directory_path() / "baton-sweep-XXXXXX").string();
    if (mkdtemp(name.data()) == nullptr) {
      return absl::UnavailableError(absl::StrCat("cannot make a folder like ", name));
    }
    return TemporaryFolder(name);
  }
  TemporaryFolder(TemporaryFolder&& other) noexcept : path_(std::exchange(other.path_, {})) {}
  TemporaryFolder& operator=(TemporaryFolder&&) = delete;
  ~TemporaryFolder() {
    std::error_code ignored;
    if (!path_.empty()) fs::remove_all(path_, ignored);
  }
  const fs::path& path() const { return path_; }

 private:
  explicit TemporaryFolder(fs::path path) : path_(std::move(path)) {}
  fs::path path_;
};

std::string PresetHelp() {
  std::string help = "What to compare under: ";
  for (const sweep::Preset& preset : sweep::Presets()) {
    absl::StrAppend(&help, &preset == &sweep::Presets().front() ? "" : "; ", preset.name, " (",
                    preset.summary, ")");
  }
  return help;
}

class BenchSweepCommand final : public Command {
 public:
  std::string name() const override { return "sweep"; }
  std::string summary() const override {
    return "Find the goodput of disaggregated and colocated serving on the same cores";
  }
  std::string footer() const override {
    return "Starts and stops the clusters itself; keep the machine otherwise idle. The last line "
           "is\n"
           "`goodput_ratio unchunked=X chunked=Y`: disaggregated over each colocated arm.\n"
           "Examples:\n"
           "  baton bench sweep --preset quick\n"
           "  baton bench sweep --preset azure-code --traces traces --json sweep.json --plots out\n"
           "  baton bench sweep --lengths fixed:1024/16 --slo 900:12 --cpus 0,1,2,3\n";
  }

  void Describe(ConfigSchema& schema) override {
    schema.AddString("preset", &preset_, PresetHelp());
    schema.AddString("lengths", &lengths_,
                     "Instead of the preset's scenarios: prompt/output tokens as in bench serve");
    schema.AddString("slo", &slo_,
                     "TTFT_MS:TPOT_MS, instead of multiples of the uncontended latencies");
    schema.AddDouble("ttft_multiple", &ttft_multiple_, 0, 1000,
                     "TTFT objective over the slowest arm's uncontended 90th percentile "
                     "(0: the preset's, 3)");
    schema.AddDouble("tpot_multiple", &tpot_multiple_, 0, 1000,
                     "TPOT objective over the slowest arm's uncontended median "
                     "(0: the preset's, 1.5)");
    schema.AddString("traces", &traces_, "Folder of the trace files that presets name");
    schema.AddString("model", &model_,
                     "As of baton worker; empty: 100 M random parameters, built in");
    schema.AddIntList("cpus", &cpus_, "CPUs that each arm gets; empty: all of this process");
    schema.AddList("chunks", &chunks_,
                   "Candidates of the chunked arm: auto or tokens; empty: the preset's");
    schema.AddBytes("kv.memory", &kv_memory_, int64_t{1} << 20, int64_t{1} << 44,
                    "Memory for the KV cache of each worker");
    schema.AddDuration("point", &point_, absl::ZeroDuration(), absl::Hours(24),
                       "Arrivals measured at one rate (0: the preset's)");
    schema.AddInt("least_requests", &least_requests_, 0, 1 << 30,
                  "Requests at one rate, at least (0: the preset's)");
    schema.AddInt("seeds", &seeds_, 0, 1000,
                  "Runs at the rates around each answer (0: the preset's)");
    schema.AddInt("seed", &seed_, 0, 1 << 30, "Of arrivals, lengths, prompts and intervals");
    schema.AddDuration("time_limit", &time_limit_, absl::ZeroDuration(), absl::Hours(240),
                       "Of each scenario: searches end early, with wider brackets "
                       "(0: the preset's)");
    schema.AddString("json", &json_, "Write everything to this file as JSON");
    schema.AddString("plots", &plots_, "Write SVG plots to this folder");
  }

  absl::Status Validate() const override {
    RETURN_IF_ERROR(Chosen().status());
    RETURN_IF_ERROR(CheckWritable("json", json_));
    if (!model_.empty()) RETURN_IF_ERROR(ValidateEngineSettings({.model = model_}));
    if (Cpus().size() < 2) {
      return absl::InvalidArgumentError("cpus: at least two, one to prefill and one to decode");
    }
    return absl::OkStatus();
  }

  absl::StatusOr<int> Run() override {
    SignalWaiter signals;
    Logger log("sweep", LogLevel::kWarning, LogFormat::kText);
    ASSIGN_OR_RETURN(const sweep::Preset preset, Chosen());
    ASSIGN_OR_RETURN(const TemporaryFolder folder, TemporaryFolder::Make());
    SweepLabOptions lab_options;
    lab_options.kv_memory = absl::StrCat(kv_memory_);
    lab_options.model = model_;
    if (model_.empty()) {
      const fs::path config = folder.path() / "100m.json";
      RETURN_IF_ERROR(WriteFile(config.string(), std::string(kSweepModelConfig)));
      lab_options.model = absl::StrCat("dummy:", config.string());
    }
    RETURN_IF_ERROR(PreparePlots());
    sweep::SweepReport report;
    report.command = CommandLine();
    report.version = kVersion;
    report.started_at = absl::FormatTime(absl::RFC3339_sec, absl::Now(), absl::UTCTimeZone());
    report.model = model_.empty() ? "100 M random parameters" : model_;
    report.cpus = Cpus();
    report.effort = preset.effort;
    SweepLab lab(lab_options, signals, log);
    for (const sweep::Scenario& scenario : preset.scenarios) {
      std::fprintf(stderr, "scenario %s, on CPUs %s\n", scenario.name.c_str(),
                   absl::StrJoin(Cpus(), ",").c_str());
      ASSIGN_OR_RETURN(const sweep::SweepInput input, Input(preset, scenario));
      auto result = sweep::RunScenario(scenario, input, lab);
      if (absl::IsCancelled(result.status())) return 130;
      if (!result.ok()) return result.status();
      report.scenarios.push_back(*std::move(result));
      // After each: hours of measuring must not be lost with the scenario after them.
      RETURN_IF_ERROR(WriteOutputs(report));
    }
    std::printf("%s\n%s\n", sweep::TextTable(report).c_str(), sweep::RatioLine(report).c_str());
    return 0;
  }

 private:
  std::vector<int32_t> Cpus() const { return cpus_.empty() ? AllowedCpus() : cpus_; }

  // The preset with what the flags change.
  absl::StatusOr<sweep::Preset> Chosen() const {
    ASSIGN_OR_RETURN(sweep::Preset preset, sweep::FindPreset(preset_));
    if (!lengths_.empty()) {
      RETURN_IF_ERROR(load::ParseLengths(lengths_).status());
      preset.scenarios = {{.name = "custom", .lengths = lengths_, .trace = "", .slo = {}}};
    }
    if (!chunks_.empty()) preset.chunks = chunks_;
    for (const std::string& chunk : preset.chunks) RETURN_IF_ERROR(ValidateChunkedPrefill(chunk));
    for (sweep::Scenario& scenario : preset.scenarios) {
      if (!slo_.empty()) {
        ASSIGN_OR_RETURN(scenario.slo, load::ParseSlo(slo_));
      }
      if (ttft_multiple_ > 0) scenario.ttft_multiple = ttft_multiple_;
      if (tpot_multiple_ > 0) scenario.tpot_multiple = tpot_multiple_;
      RETURN_IF_ERROR(CheckTrace(scenario));
    }
    sweep::Effort& effort = preset.effort;
    if (point_ > absl::ZeroDuration()) effort.point = point_;
    if (least_requests_ > 0) effort.least_requests = least_requests_;
    effort.most_requests = std::max(effort.most_requests, effort.least_requests);
    if (seeds_ > 0) effort.seeds = seeds_;
    if (time_limit_ > absl::ZeroDuration()) effort.time_limit = time_limit_;
    return preset;
  }

  absl::Status CheckTrace(const sweep::Scenario& scenario) const {
    if (scenario.trace.empty()) return absl::OkStatus();
    if (traces_.empty()) {
      return absl::InvalidArgumentError(absl::StrCat("traces: not given; scenario ", scenario.name,
                                                     " reads ", scenario.trace, " from there"));
    }
    std::error_code error;
    if (fs::exists(fs::path(traces_) / scenario.trace, error)) return absl::OkStatus();
    return absl::InvalidArgumentError(
        absl::StrCat("traces: ", traces_, " has no ", scenario.trace));
  }

  absl::StatusOr<sweep::SweepInput> Input(const sweep::Preset& preset,
                                          const sweep::Scenario& scenario) const {
    sweep::SweepInput input;
    input.arms = sweep::MakeArms(Cpus(), preset.chunks);
    input.effort = preset.effort;
    input.seed = static_cast<uint64_t>(seed_);
    input.log = [](const std::string& line) { std::fprintf(stderr, "%s\n", line.c_str()); };
    if (!scenario.trace.empty()) {
      ASSIGN_OR_RETURN(input.trace, load::ReadTrace((fs::path(traces_) / scenario.trace).string()));
    }
    return input;
  }

  absl::Status PreparePlots() const {
    if (plots_.empty()) return absl::OkStatus();
    std::error_code error;
    fs::create_directories(plots_, error);
    if (!error) return absl::OkStatus();
    return absl::UnavailableError(
        absl::StrCat("cannot make the folder ", plots_, ": ", error.message()));
  }

  absl::Status WriteOutputs(const sweep::SweepReport& report) const {
    if (!json_.empty()) RETURN_IF_ERROR(WriteFile(json_, sweep::SweepJson(report)));
    if (plots_.empty()) return absl::OkStatus();
    for (const auto& [name, svg] : sweep::SweepPlots(report)) {
      RETURN_IF_ERROR(WriteFile((fs::path(plots_) / name).string(), svg));
    }
    return absl::OkStatus();
  }

  std::string preset_ = "quick";
  std::string lengths_;
  std::string slo_;
  double ttft_multiple_ = 0;
  double tpot_multiple_ = 0;
  std::string traces_;
  std::string model_;
  std::vector<int32_t> cpus_;
  std::vector<std::string> chunks_;
  int64_t kv_memory_ = int64_t{512} << 20;
  absl::Duration point_;
  int32_t least_requests_ = 0;
  int32_t seeds_ = 0;
  int32_t seed_ = 1;
  absl::Duration time_limit_;
  std::string json_;
  std::string plots_;
};

}  // namespace

std::unique_ptr<Command> MakeBenchSweepCommand() { return std::make_unique<BenchSweepCommand>(); }

}  // namespace baton
