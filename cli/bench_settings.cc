#include "cli/bench_settings.h"

#include <nlohmann/json.hpp>
#include <utility>

#include "absl/strings/str_cat.h"
#include "absl/strings/str_split.h"
#include "cli/output_file.h"
#include "common/check.h"

namespace baton {
namespace {

std::vector<std::string> Lines(const std::string& text) {
  return absl::StrSplit(text, '\n', absl::SkipEmpty());
}

absl::Status Invalid(const std::string& message) { return absl::InvalidArgumentError(message); }

void AddServerSettings(ConfigSchema& schema, BenchSettings* settings) {
  schema.AddString("base_url", &settings->base_url, "Server, http://HOST:PORT");
  schema.AddChoice("endpoint", &settings->endpoint, {"completions", "chat"},
                   "What is called: completions or chat");
  schema.AddString("model", &settings->model, "Model to ask for; empty: the first one listed");
  schema.AddString("header", &settings->headers, "NAME:VALUE sent with each request; repeatable");
  schema.AddSecret("api_key", &settings->api_key,
                   "API key, where the server asks for one (better in BATON_API_KEY)");
  schema.AddDuration("timeout", &settings->timeout, absl::Milliseconds(10), absl::Hours(24),
                     "Longest wait for a whole answer, from the intended send time");
  schema.AddBool("skip_probe", &settings->skip_probe,
                 "Do not ask the server anything before the run; needs --model");
}

void AddArrivalSettings(ConfigSchema& schema, BenchSettings* settings) {
  schema.AddChoice("arrival", &settings->arrival,
                   {"poisson", "gamma", "constant", "ramp", "burst", "trace"},
                   "When requests are sent: poisson, gamma, constant, ramp, burst or trace");
  schema.AddDouble("rate", &settings->rate_per_s, 0, 1e6,
                   "Requests/s; for a trace, its mean rescaled to this. 0: 1/s, or as the trace");
  schema.AddDouble("cv", &settings->cv, 0, 100, "gamma: coefficient of variation of the gaps");
  schema.AddDouble("ramp_to", &settings->ramp_to_per_s, 0, 1e6, "ramp: requests/s at the end");
  schema.AddDuration("burst_on", &settings->burst_on, absl::ZeroDuration(), absl::Hours(24),
                     "burst: how long requests come; --rate stays the mean over on and off");
  schema.AddDuration("burst_off", &settings->burst_off, absl::ZeroDuration(), absl::Hours(24),
                     "burst: how long they do not");
  schema.AddString("trace", &settings->trace, "Azure CSV or Mooncake JSONL: times, lengths");
  schema.AddDouble("speedup", &settings->speedup, 0, 1e6, "trace: divide its times by this");
  schema.AddInt("trace_first_row", &settings->trace_first_row, 0, 1 << 30,
                "trace: begin at this row");
  schema.AddInt("num_requests", &settings->num_requests, 0, 100'000'000,
                "Measured requests; 0: as --duration says, else 100, or the whole trace");
  schema.AddDuration("duration", &settings->duration, absl::ZeroDuration(), absl::Hours(240),
                     "How long requests are sent; 0: as --num-requests says");
  schema.AddInt("warmup", &settings->warmup, 0, 1'000'000,
                "Requests sent first, at the same rate, and not measured");
  schema.AddInt("seed", &settings->seed, 0, 1 << 30, "Of arrivals, lengths, classes and prompts");
  schema.AddInt("seeds", &settings->seeds, 1, 1000, "Repeats with seed, seed + 1, …");
}

void AddRequestSettings(ConfigSchema& schema, BenchSettings* settings) {
  schema.AddString("lengths", &settings->lengths,
                   "Prompt/output tokens: fixed:512/64, uniform:A-B/C-D, "
                   "lognormal:MEDIAN,SIGMA/MEDIAN,SIGMA or trace");
  schema.AddDouble("length_scale", &settings->length_scale, 0, 1000, "Multiplies every length");
  schema.AddChoice("overlong", &settings->overlong, {"fail", "drop", "clip"},
                   "Requests longer than the model's context: fail (do not start), drop or clip");
  schema.AddInt("max_model_len", &settings->max_model_len, 0, 1 << 30,
                "The model's context in tokens; 0: ask the server");
  schema.AddChoice(
      "prompts", &settings->prompts, {"auto", "ids", "text"},
      "ids (random, exact lengths), text (words), auto (ids where the server takes them)");
  schema.AddInt("vocab_size", &settings->vocab_size, 0, 1 << 30,
                "Token ids are drawn below this; 0: ask the server");
  schema.AddDouble("temperature", &settings->temperature, 0, 2, "0 is greedy");
  schema.AddString("extra_body", &settings->extra_body, "JSON object merged into each request");
  schema.AddString("slo", &settings->slo, "TTFT_MS:TPOT_MS that a good request meets; - no bound");
  schema.AddString("slo_class", &settings->slo_classes,
                   "NAME=SHARE,TTFT_MS,TPOT_MS, sent as x-slo-class; repeatable");
}

void AddOutputSettings(ConfigSchema& schema, BenchSettings* settings) {
  schema.AddString("json", &settings->json, "Also write the report to this file as JSON");
  schema.AddBool("records", &settings->records, "JSON: also each request, with each of its gaps");
  schema.AddString("html", &settings->html,
                   "Also write the report to this file as one HTML page with plots");
}

absl::StatusOr<std::string> ExtraFields(const std::string& text) {
  if (text.empty()) return std::string();
  const auto parsed = nlohmann::json::parse(text, nullptr, /*allow_exceptions=*/false);
  if (!parsed.is_object()) return Invalid("extra_body: not a JSON object");
  const std::string dumped = parsed.dump();
  return dumped.substr(1, dumped.size() - 2);
}

absl::StatusOr<std::vector<load::SloClass>> Classes(const BenchSettings& settings) {
  std::vector<load::SloClass> classes;
  for (const std::string& line : Lines(settings.slo_classes)) {
    ASSIGN_OR_RETURN(classes.emplace_back(), load::ParseSloClass(line));
  }
  if (!classes.empty() && !settings.slo.empty()) {
    return Invalid("slo: given with slo_class; each class has its own objectives");
  }
  if (classes.empty()) {
    classes.emplace_back();
    if (!settings.slo.empty()) {
      ASSIGN_OR_RETURN(classes.front().slo, load::ParseSlo(settings.slo));
    }
  }
  RETURN_IF_ERROR(load::NormalizeShares(&classes));
  return classes;
}

std::string EffectiveLengths(const BenchSettings& settings) {
  if (!settings.lengths.empty()) return settings.lengths;
  return settings.trace.empty() ? "fixed:512/64" : "trace";
}

load::ArrivalKind Kind(const std::string& name) {
  if (name == "gamma") return load::ArrivalKind::kGamma;
  if (name == "constant") return load::ArrivalKind::kConstant;
  if (name == "ramp") return load::ArrivalKind::kRamp;
  if (name == "burst") return load::ArrivalKind::kBurst;
  if (name == "trace") return load::ArrivalKind::kTrace;
  return load::ArrivalKind::kPoisson;
}

// Settings that say nothing for the kind of arrivals are mistakes, not wishes.
absl::Status CheckArrivals(const BenchSettings& settings, const load::WorkloadSpec& spec) {
  const bool replay = spec.arrivals.kind == load::ArrivalKind::kTrace;
  const bool uses_trace = replay || spec.lengths.kind == load::LengthKind::kTrace;
  if (uses_trace && settings.trace.empty()) {
    return Invalid("trace: no file given, but --arrival or --lengths says trace");
  }
  if (!uses_trace && !settings.trace.empty()) {
    return Invalid("trace: given, but neither --arrival nor --lengths says trace");
  }
  if (!replay && settings.speedup > 0) return Invalid("speedup: only with --arrival trace");
  const bool ramp = spec.arrivals.kind == load::ArrivalKind::kRamp;
  if (ramp != (settings.ramp_to_per_s > 0)) {
    return Invalid(ramp ? "ramp_to: not given; --arrival ramp goes from --rate to --ramp-to"
                        : "ramp_to: only with --arrival ramp");
  }
  return absl::OkStatus();
}

}  // namespace

void AddBenchSettings(ConfigSchema& schema, BenchSettings* settings) {
  AddServerSettings(schema, settings);
  AddArrivalSettings(schema, settings);
  AddRequestSettings(schema, settings);
  AddOutputSettings(schema, settings);
}

std::vector<std::string> RepeatableBenchSettings() { return {"header", "slo_class"}; }

absl::StatusOr<load::Target> BenchTarget(const BenchSettings& settings) {
  load::Target target;
  ASSIGN_OR_RETURN(target.url, load::ParseServerUrl(settings.base_url));
  for (const std::string& line : Lines(settings.headers)) {
    ASSIGN_OR_RETURN(target.headers.emplace_back(), load::ParseHeader(line));
  }
  if (!settings.api_key.empty()) {
    target.headers.emplace_back("Authorization", absl::StrCat("Bearer ", settings.api_key));
  }
  target.timeout = settings.timeout;
  target.body.model = settings.model;
  const bool chat = settings.endpoint == "chat";
  if (chat && settings.prompts == "ids") return Invalid("prompts: chat takes text, not ids");
  target.body.endpoint = chat ? load::Endpoint::kChat : load::Endpoint::kCompletions;
  if (chat || settings.prompts == "text") target.body.format = load::PromptFormat::kText;
  target.body.temperature = settings.temperature;
  ASSIGN_OR_RETURN(target.body.extra_fields, ExtraFields(settings.extra_body));
  if (settings.skip_probe && settings.model.empty()) {
    return Invalid("model: not given, and with --skip-probe the server is not asked");
  }
  return target;
}

absl::StatusOr<load::WorkloadSpec> BenchWorkload(const BenchSettings& settings) {
  load::WorkloadSpec spec;
  spec.arrivals.kind = Kind(settings.arrival);
  spec.arrivals.rate_per_s = settings.rate_per_s > 0 ? settings.rate_per_s : 1;
  spec.arrivals.cv = settings.cv;
  spec.arrivals.ramp_to_per_s = settings.ramp_to_per_s;
  spec.arrivals.burst_on = settings.burst_on;
  spec.arrivals.burst_off = settings.burst_off;
  ASSIGN_OR_RETURN(spec.lengths, load::ParseLengths(EffectiveLengths(settings)));
  RETURN_IF_ERROR(CheckArrivals(settings, spec));
  const bool replay = spec.arrivals.kind == load::ArrivalKind::kTrace;
  spec.limit.max_requests = settings.num_requests;
  if (settings.duration > absl::ZeroDuration()) {
    spec.limit.duration = settings.duration;
  } else if (settings.num_requests == 0 && !replay) {
    spec.limit.max_requests = 100;
  }
  spec.warmup_requests = settings.warmup;
  ASSIGN_OR_RETURN(spec.classes, Classes(settings));
  spec.length_scale = settings.length_scale;
  spec.max_model_len = settings.max_model_len;
  if (settings.overlong == "drop") spec.overlong = load::Overlong::kDrop;
  if (settings.overlong == "clip") spec.overlong = load::Overlong::kClip;
  if (replay) {
    spec.trace_speedup = settings.speedup;
    spec.trace_rate_per_s = settings.rate_per_s;
  }
  spec.trace_first_row = settings.trace_first_row;
  return spec;
}

absl::Status CheckBenchOutputs(const BenchSettings& settings) {
  RETURN_IF_ERROR(CheckWritable("json", settings.json));
  RETURN_IF_ERROR(CheckWritable("html", settings.html));
  if (!settings.json.empty() && settings.json == settings.html) {
    return Invalid("html: the same file as json");
  }
  if (settings.records && settings.json.empty()) return Invalid("records: only with --json");
  return absl::OkStatus();
}

std::string DescribeLengths(const BenchSettings& settings) {
  std::string text = EffectiveLengths(settings);
  if (text == "trace") absl::StrAppend(&text, " ", settings.trace);
  if (settings.length_scale != 1) absl::StrAppend(&text, ", scaled by ", settings.length_scale);
  return text;
}

}  // namespace baton
