#include "cli/bench_command.h"

#include <unistd.h>

#include <algorithm>
#include <cstdio>
#include <utility>

#include "absl/strings/str_cat.h"
#include "absl/strings/str_format.h"
#include "absl/time/clock.h"
#include "bench/load/client/probe.h"
#include "bench/load/client/run_load.h"
#include "bench/load/report/bench_report.h"
#include "cli/bench_settings.h"
#include "cli/command_line.h"
#include "cli/output_file.h"
#include "cli/signals.h"
#include "cli/version.h"
#include "common/check.h"

namespace baton {
namespace {

constexpr absl::Duration kProbeTimeout = absl::Seconds(10);
// Most vocabularies are larger; a server that does not tell its own gets ids below this.
constexpr int32_t kAssumedVocabulary = 16'000;

// One line that is rewritten on a terminal; elsewhere one line every ten seconds.
class ProgressLine {
 public:
  explicit ProgressLine(std::string prefix) : prefix_(std::move(prefix)), tty_(isatty(2) == 1) {}
  ~ProgressLine() {
    if (tty_) std::fputs("\r\033[K", stderr);
  }

  void Show(const load::LoadProgress& progress) {
    if (!tty_ && progress.elapsed < next_) return;
    next_ = progress.elapsed + absl::Seconds(10);
    const double elapsed_s = absl::ToDoubleSeconds(progress.elapsed);
    const std::string line = absl::StrFormat(
        "%s%.0f s: sent %d of %d, in flight %d, answered %d, failed %d, %.0f tokens/s, "
        "last sent %.1f ms late",
        prefix_, elapsed_s, progress.sent, progress.planned, progress.sent - progress.ended,
        progress.succeeded, progress.ended - progress.succeeded,
        elapsed_s > 0 ? static_cast<double>(progress.output_tokens) / elapsed_s : 0.0,
        progress.last_late_ms);
    std::fprintf(stderr, tty_ ? "\r\033[K%s" : "%s\n", line.c_str());
  }

 private:
  const std::string prefix_;
  const bool tty_;
  absl::Duration next_ = absl::Seconds(10);
};

class BenchServeCommand final : public Command {
 public:
  std::string name() const override { return "serve"; }
  std::string summary() const override {
    return "Send open-loop load to a running server and report latencies and goodput";
  }
  std::string footer() const override {
    return R"(Examples:
  baton bench serve --rate 4 --num-requests 200 --lengths fixed:512/64 --slo 400:40
  baton bench serve --arrival trace --trace azure_code_2023.csv --rate 2 --length-scale 0.25
  baton bench serve --slo-class chat=0.7,500,50 --slo-class batch=0.3,5000,- --html report.html

Exit status:
  0  at least one measured request was answered well; failures are counted and named
  1  none was, or the server cannot be reached, or a signal ended the run, or a report
     could not be written
  2  the settings are wrong, or the server does not know the model or an SLO class

docs/benchmarking.md defines every figure and maps the flags of `vllm bench serve`.)";
  }
  void Describe(ConfigSchema& schema) override { AddBenchSettings(schema, &settings_); }
  std::vector<std::string> Repeatable() const override { return RepeatableBenchSettings(); }

  absl::Status Validate() const override {
    RETURN_IF_ERROR(BenchTarget(settings_).status());
    RETURN_IF_ERROR(CheckBenchOutputs(settings_));
    ASSIGN_OR_RETURN(const load::WorkloadSpec spec, BenchWorkload(settings_));
    ASSIGN_OR_RETURN(const std::vector<load::TraceRow> trace, ReadTraceIfAny());
    return load::BuildPlan(spec, trace, FirstSeed()).status();
  }

  absl::StatusOr<int> Run() override {
    absl::StatusOr<int> result = RunSeeds();
    if (!absl::IsInvalidArgument(result.status())) return result;
    std::fprintf(stderr, "baton bench serve: %s\n", std::string(result.status().message()).c_str());
    return 2;
  }

 private:
  absl::StatusOr<int> RunSeeds() {
    ASSIGN_OR_RETURN(load::Target target, BenchTarget(settings_));
    ASSIGN_OR_RETURN(load::WorkloadSpec spec, BenchWorkload(settings_));
    ASSIGN_OR_RETURN(const std::vector<load::TraceRow> trace, ReadTraceIfAny());
    load::BenchReport report;
    report.classes = spec.classes;
    report.info.command = CommandLine();
    report.info.client_version = kVersion;
    report.info.started_at = absl::FormatTime(absl::RFC3339_sec, absl::Now(), absl::UTCTimeZone());
    RETURN_IF_ERROR(AskServer(&target, &spec, &report.info));
    SignalWaiter signals;  // only now: while the server is asked, a signal simply ends the process
    for (int32_t i = 0; i < settings_.seeds; ++i) {
      ASSIGN_OR_RETURN(const load::LoadPlan plan,
                       load::BuildPlan(spec, trace, FirstSeed() + static_cast<uint64_t>(i)));
      RETURN_IF_ERROR(RunOne(plan, target, signals, &report));
      if (report.runs.back().result.interrupted) break;
    }
    std::vector<std::span<const load::RequestRecord>> runs;
    for (const load::SeedRun& run : report.runs) runs.emplace_back(run.result.records);
    report.pooled = load::SummarizeRepeats(runs, report.classes);
    FillInfo(target, spec, &report);
    RETURN_IF_ERROR(Write(report));
    return report.pooled.succeeded > 0 && !report.runs.back().result.interrupted ? 0 : 1;
  }

  uint64_t FirstSeed() const { return static_cast<uint64_t>(settings_.seed); }

  absl::Duration ProbeTimeout() const { return std::min(kProbeTimeout, settings_.timeout); }

  absl::StatusOr<std::vector<load::TraceRow>> ReadTraceIfAny() const {
    if (settings_.trace.empty()) return std::vector<load::TraceRow>();
    return load::ReadTrace(settings_.trace);
  }

  // Fills in what the settings left to the server. A server that misbehaves here is measured all
  // the same, since that is what the run will show; one that is not there is not.
  absl::Status AskServer(load::Target* target, load::WorkloadSpec* spec, load::RunInfo* info) {
    int32_t vocab_size = settings_.vocab_size;
    if (!settings_.skip_probe) {
      const auto models = load::ListModels(*target, ProbeTimeout());
      if (absl::IsUnavailable(models.status())) return models.status();
      if (!models.ok()) {
        if (settings_.model.empty()) return models.status();
        info->notes.emplace_back(models.status().message());
      } else {
        RETURN_IF_ERROR(ChooseModel(*models, target, spec, &vocab_size));
      }
      info->server_version = load::ServerVersion(*target, ProbeTimeout());
    }
    if (vocab_size == 0) {
      vocab_size = kAssumedVocabulary;
      if (target->body.format == load::PromptFormat::kTokenIds) {
        info->notes.push_back(absl::StrFormat(
            "The server does not tell its vocabulary: token ids are below %d (--vocab-size).",
            vocab_size));
      }
    }
    target->body.tokens = load::RangeOfVocabulary(vocab_size);
    if (settings_.skip_probe) return absl::OkStatus();
    const auto given_up = load::NegotiateBody(target, ProbeTimeout());
    if (given_up.ok()) {
      info->notes.insert(info->notes.end(), given_up->begin(), given_up->end());
      return load::CheckSloClasses(*target, spec->classes, ProbeTimeout());
    }
    info->notes.push_back(absl::StrCat("The request before the run failed: ",
                                       std::string(given_up.status().message())));
    std::fprintf(stderr, "%s\n", info->notes.back().c_str());
    return absl::OkStatus();
  }

  absl::Status ChooseModel(const std::vector<load::ServedModelInfo>& models, load::Target* target,
                           load::WorkloadSpec* spec, int32_t* vocab_size) const {
    const load::ServedModelInfo* chosen = nullptr;
    std::string names;
    for (const load::ServedModelInfo& model : models) {
      if (settings_.model.empty() || model.id == settings_.model) {
        chosen = &model;
        break;
      }
      absl::StrAppend(&names, names.empty() ? "" : ", ", model.id);
    }
    if (chosen == nullptr) {
      return absl::InvalidArgumentError(
          absl::StrCat("model: the server has no \"", settings_.model, "\"; it has ", names));
    }
    target->body.model = chosen->id;
    if (spec->max_model_len == 0) spec->max_model_len = chosen->max_model_len;
    if (*vocab_size == 0) *vocab_size = chosen->vocab_size;
    return absl::OkStatus();
  }

  absl::Status RunOne(const load::LoadPlan& plan, const load::Target& target, SignalWaiter& signals,
                      load::BenchReport* report) const {
    ProgressLine progress(settings_.seeds > 1 ? absl::StrFormat("seed %d, ", plan.seed) : "");
    load::LoadHooks hooks;
    hooks.on_progress = [&](const load::LoadProgress& now) {
      progress.Show(now);
      return signals.Wait(absl::ZeroDuration()) == 0;
    };
    load::SeedRun run;
    run.seed = plan.seed;
    run.planned_per_s = plan.offered_per_s;
    run.dropped = plan.dropped;
    run.clipped = plan.clipped;
    run.shares_prefixes = plan.block_tokens > 0;
    ASSIGN_OR_RETURN(run.result, load::RunLoad(plan, target, hooks));
    run.summary = load::Summarize(run.result.records, plan.classes);
    report->info.trace_speedup = plan.trace_speedup;
    report->runs.push_back(std::move(run));
    return absl::OkStatus();
  }

  void FillInfo(const load::Target& target, const load::WorkloadSpec& spec,
                load::BenchReport* report) const {
    load::RunInfo& info = report->info;
    info.base_url = settings_.base_url;
    info.model = target.body.model;
    info.endpoint = settings_.endpoint;
    info.arrivals = load::DescribeArrivals(spec.arrivals);
    if (spec.arrivals.kind == load::ArrivalKind::kTrace && info.trace_speedup != 1) {
      absl::StrAppend(&info.arrivals, absl::StrFormat(", %.4gx faster", info.trace_speedup));
    }
    info.lengths = DescribeLengths(settings_);
    info.length_scale = settings_.length_scale;
  }

  absl::Status Write(const load::BenchReport& report) const {
    std::fputs(load::TextReport(report).c_str(), stdout);
    std::fflush(stdout);
    if (!settings_.json.empty()) {
      RETURN_IF_ERROR(WriteFile(settings_.json, load::JsonReport(report, settings_.records)));
    }
    if (settings_.html.empty()) return absl::OkStatus();
    return WriteFile(settings_.html, load::HtmlReport(report));
  }

  BenchSettings settings_;
};

}  // namespace

std::unique_ptr<Command> MakeBenchServeCommand() { return std::make_unique<BenchServeCommand>(); }

}  // namespace baton
