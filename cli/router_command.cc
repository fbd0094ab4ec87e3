#include "cli/router_command.h"

#include <algorithm>
#include <random>
#include <utility>
#include <vector>

#include "absl/strings/str_cat.h"
#include "absl/time/clock.h"
#include "cli/child_process.h"
#include "cli/front_model.h"
#include "cli/signals.h"
#include "cli/tls_settings.h"
#include "cli/version.h"
#include "common/check.h"
#include "common/clock.h"
#include "common/file_limit.h"
#include "common/metrics.h"
#include "common/strings.h"
#include "router/front/key_file.h"
#include "router/grpc/grpc_server.h"
#include "router/http/http_server.h"
#include "router/link/slo_config.h"
#include "router/link/start_router.h"

namespace baton {
namespace {

constexpr absl::Duration kPoll = absl::Milliseconds(100);

uint64_t RandomSeed() {
  std::random_device random;
  return (uint64_t{random()} << 32) | random();
}

// Templates that print the date (Llama 3.1) read the time from their context: they have no clock.
// `context` is a JSON object with at least one member.
std::string WithTime(std::string_view context) {
  return absl::StrCat(View(context.substr(0, context.size() - 1)),
                      ",\"current_time_unix_s\":", absl::ToUnixSeconds(absl::Now()), "}");
}

absl::StatusOr<RouterOptions> ToRouterOptions(const RouterSettings& settings,
                                              const FrontModel& model) {
  RouterOptions options;
  options.model_name = model.name;
  options.model_root = model.root;
  options.eos_tokens = model.eos_tokens;
  options.slo_ttft_ms = settings.slo_ttft_ms;
  options.slo_tpot_ms = settings.slo_tpot_ms;
  ASSIGN_OR_RETURN(options.slo_classes, ParseSloClasses(settings.slo_classes));
  options.admission.mode =
      settings.admission == "off" ? router::AdmissionMode::kOff : router::AdmissionMode::kPredict;
  options.admission.slack = settings.admission_slack;
  options.conditional_disaggregation = settings.conditional_disaggregation == "auto";
  options.max_tenant_bytes = settings.max_tenant_bytes;
  options.max_queued_requests = settings.max_queued_requests;
  options.max_queued_bytes = settings.max_queued_bytes;
  options.default_timeout = settings.request_timeout;
  options.control_tls = settings.control_tls;
  return options;
}

RequestLimits ToLimits(const RouterOptions& options) {
  RequestLimits limits;
  limits.slo_classes.clear();
  for (const router::SloClass& slo_class : SloClassesOf(options)) {
    limits.slo_classes.push_back(slo_class.name);
  }
  return limits;
}

HttpServerOptions ToHttpOptions(const RouterSettings& settings) {
  HttpServerOptions options;
  options.host = settings.host;
  options.port = static_cast<uint16_t>(settings.port);
  options.version = kVersion;
  options.tls = settings.tls;
  options.id_seed = RandomSeed();
  options.max_body_bytes = static_cast<uint64_t>(settings.max_body_bytes);
  options.max_connections = static_cast<size_t>(settings.max_connections);
  options.head_timeout = settings.head_timeout;
  options.body_timeout = settings.body_timeout;
  options.idle_timeout = settings.idle_timeout;
  options.write_timeout = settings.write_timeout;
  options.max_output_bytes = static_cast<size_t>(settings.max_output_bytes);
  options.max_waiting_body_bytes = static_cast<uint64_t>(settings.max_waiting_body_bytes);
  options.request_timeout = settings.request_timeout;
  options.cors_allow_origin = settings.cors_origin;
  return options;
}

class RouterCommand final : public Command {
 public:
  std::string name() const override { return "router"; }
  std::string summary() const override {
    return "Run the router: HTTP and gRPC in front, workers behind";
  }
  std::string footer() const override {
    return "Example:\n"
           "  baton router --model models/demo --workers 127.0.0.1:9100,127.0.0.1:9101\n";
  }

  void Describe(ConfigSchema& schema) override {
    schema.AddString("id", &id_,
                     "Name towards workers: routers that share workers must differ in it");
    schema.AddString("model", &model_,
                     "Model directory (for its tokenizer and chat template) or dummy:CONFIG.json");
    schema.AddString("served_name", &served_name_,
                     "Name that clients use (default: the directory's)");
    schema.AddList("workers", &workers_, "host:port of each worker's control port");
    AddRouterSettings(schema, &settings_);
    schema.AddDuration("drain_timeout", &drain_timeout_, absl::Seconds(1), absl::Hours(1),
                       "Longest wait for running requests after SIGTERM");
    schema.AddInt("ready_fd", &ready_fd_, -1, 1 << 20,
                  "Descriptor to report ports and readiness to (used by baton up)");
    AddLogSettings(schema, &log_);
  }

  absl::Status Validate() const override {
    if (model_.empty()) return absl::InvalidArgumentError("no model: give --model DIR");
    if (id_.empty()) return absl::InvalidArgumentError("id: a router needs a name");
    if (workers_.empty()) {
      return absl::InvalidArgumentError("no workers: give --workers host:port,host:port");
    }
    return ValidateRouterSettings(settings_);
  }

  absl::StatusOr<int> Run() override {
    SignalWaiter signals;
    const MonotonicClock clock;
    Logger log("router", log_.ToLevel(), log_.ToFormat());
    MetricRegistry metrics;
    ASSIGN_OR_RETURN(const FrontModel model, LoadFrontModel(model_, served_name_));
    ASSIGN_OR_RETURN(RouterOptions options, ToRouterOptions(settings_, model));
    options.router_id = id_;
    options.workers = workers_;
    options.slo_default_stated = IsSet("slo.ttft_ms") || IsSet("slo.tpot_ms");
    ASSIGN_OR_RETURN(const auto router,
                     StartRouter(options, *model.tokenizer, clock, log, metrics));
    std::unique_ptr<KeyFile> keys;
    if (!settings_.api_keys.empty()) {
      ASSIGN_OR_RETURN(keys, KeyFile::Open(settings_.api_keys, clock, log, metrics));
    }
    ChatRenderer render_chat;
    if (model.chat_template) {
      render_chat = [&model](std::string_view context) {
        return model.chat_template->Render(WithTime(context));
      };
    }
    HttpServerOptions http_options = ToHttpOptions(settings_);
    http_options.limits = ToLimits(options);
    LimitConnections(http_options, log);
    ASSIGN_OR_RETURN(const auto http, StartHttpServer(std::move(http_options),
                                                      {*router, *model.tokenizer, render_chat,
                                                       metrics, log, keys.get()}));
    GrpcServerOptions grpc_options;
    grpc_options.host = settings_.host;
    grpc_options.port = static_cast<uint16_t>(settings_.grpc_port);
    grpc_options.tls = settings_.tls;
    grpc_options.id_seed = RandomSeed();
    grpc_options.request_timeout = settings_.request_timeout;
    grpc_options.limits = ToLimits(options);
    ASSIGN_OR_RETURN(
        const auto grpc,
        StartGrpcServer(grpc_options, {*router, *model.tokenizer, render_chat, log, keys.get()}));
    const char* const scheme = settings_.tls.any() ? "https://" : "http://";
    log.Info("listening", {{"http", absl::StrCat(scheme, settings_.host, ":", http->port())},
                           {"grpc", absl::StrCat(settings_.host, ":", grpc->port())}});
    const ReadyReporter reporter(ready_fd_);
    reporter.Report(absl::StrCat("listening ", http->port(), " ", grpc->port()));
    ServeUntilSignal(*router, *grpc, signals, reporter, log);

    log.Info("draining", {{"timeout", absl::FormatDuration(drain_timeout_)}});
    router->Drain();
    const bool idle = WaitUntilIdle(*router, signals, clock);
    http->Stop(idle ? absl::Seconds(5) : absl::ZeroDuration());
    grpc->Stop(idle ? absl::Seconds(5) : absl::ZeroDuration());
    if (!idle) log.Warning("stopping with requests still running");
    return idle ? 0 : 1;
  }

 private:
  void LimitConnections(HttpServerOptions& options, Logger& log) const {
    const uint64_t allowed =
        ConnectionsWithin(FileLimit(), options.max_connections, 2 * workers_.size());
    if (allowed == options.max_connections) return;
    log.Warning("fewer connections than max_connections: the limit of open files is low",
                {{"max_connections", options.max_connections}, {"allowed", allowed}});
    options.max_connections = allowed;
  }

  static void ServeUntilSignal(const Router& router, GrpcServer& grpc, SignalWaiter& signals,
                               const ReadyReporter& reporter, Logger& log) {
    bool reported = false;
    do {
      if (!reported && router.readiness().phase == ReadyPhase::kReady) {
        grpc.PublishReadiness();
        log.Info("ready", {{"model", router.model().name}});
        reporter.Report("ready");
        reported = true;
      }
    } while (signals.Wait(kPoll) == 0);
  }

  bool WaitUntilIdle(Router& router, SignalWaiter& signals, const Clock& clock) const {
    const absl::Time deadline = clock.Now() + drain_timeout_;
    while (!router.WaitUntilIdle(kPoll)) {
      if (clock.Now() > deadline || signals.Wait(absl::ZeroDuration()) != 0) return false;
    }
    return true;
  }

  // Somebody chose its value.
  bool IsSet(std::string_view key) {
    const std::vector<ConfigEntry>& entries = schema().entries();
    return std::any_of(entries.begin(), entries.end(), [key](const ConfigEntry& entry) {
      return entry.key == key && entry.source != "default";
    });
  }

  std::string id_ = RouterOptions{}.router_id;
  std::string model_;
  std::string served_name_;
  std::vector<std::string> workers_;
  RouterSettings settings_;
  absl::Duration drain_timeout_ = absl::Seconds(60);
  int32_t ready_fd_ = -1;
  LogSettings log_;
};

}  // namespace

void AddRouterSettings(ConfigSchema& schema, RouterSettings* settings) {
  schema.AddString("host", &settings->host, "Address that clients connect to");
  schema.AddInt("port", &settings->port, 0, 65535, "HTTP port (0: any)");
  schema.AddInt("grpc_port", &settings->grpc_port, 0, 65535, "gRPC port (0: any)");
  schema.AddDouble("slo.ttft_ms", &settings->slo_ttft_ms, 1, 3.6e6,
                   "Objective: milliseconds to the first token");
  schema.AddDouble("slo.tpot_ms", &settings->slo_tpot_ms, 0.1, 3.6e6,
                   "Objective: milliseconds per output token after it");
  schema.AddList("slo_classes", &settings->slo_classes,
                 "Further SLO classes: name=chat;ttft_ms=500;tpot_ms=50;weight=2;shed_order=1");
  schema.AddChoice("admission.mode", &settings->admission, {"predict", "off"},
                   "Refuse with 429 what is predicted to miss a stated objective");
  schema.AddDouble("admission.slack", &settings->admission_slack, 0.1, 100,
                   "Refuse above this times the objective");
  schema.AddChoice("conditional_disaggregation", &settings->conditional_disaggregation,
                   {"auto", "off"},
                   "Prefill prompts on decode workers in the time that their rows leave");
  schema.AddBytes("queue.max_tenant_bytes", &settings->max_tenant_bytes, int64_t{1} << 10,
                  int64_t{1} << 40, "Memory of one tenant's waiting requests at most");
  schema.AddInt("queue.max_requests", &settings->max_queued_requests, 1, 1 << 24,
                "Requests waiting at most; more are refused with 429");
  schema.AddBytes("queue.max_bytes", &settings->max_queued_bytes, int64_t{1} << 20,
                  int64_t{1} << 40, "Memory of waiting requests at most");
  schema.AddDuration("request_timeout", &settings->request_timeout, absl::Seconds(1),
                     absl::Hours(24), "Deadline of a request that brings none");
  schema.AddBytes("max_body", &settings->max_body_bytes, int64_t{1} << 10, int64_t{1} << 30,
                  "Longest request body");
  schema.AddInt("max_connections", &settings->max_connections, 1, 1 << 20,
                "HTTP connections at most");
  schema.AddDuration("http.head_timeout", &settings->head_timeout, absl::Milliseconds(10),
                     absl::Hours(1), "Longest time from a request's first byte to its head's end");
  schema.AddDuration("http.body_timeout", &settings->body_timeout, absl::Milliseconds(10),
                     absl::Hours(1), "Longest time from the head's end to the body's");
  schema.AddDuration("http.idle_timeout", &settings->idle_timeout, absl::Milliseconds(10),
                     absl::Hours(24), "Longest time between requests of one connection");
  schema.AddDuration("http.write_timeout", &settings->write_timeout, absl::Milliseconds(10),
                     absl::Hours(1), "Longest time in which a client takes no byte of its answer");
  schema.AddBytes("http.max_output", &settings->max_output_bytes, int64_t{4} << 10,
                  int64_t{1} << 30, "What may wait for one slow reader of a stream");
  schema.AddBytes("http.max_waiting_bodies", &settings->max_waiting_body_bytes, int64_t{1} << 20,
                  int64_t{1} << 40, "Memory of large bodies that are being received, all together");
  schema.AddString("cors_origin", &settings->cors_origin,
                   "Allowed origin for browsers (empty: none)");
  AddFrontTlsSettings(schema, &settings->tls);
  AddControlTlsSettings(schema, &settings->control_tls);
  schema.AddString("api_keys", &settings->api_keys,
                   "File of API keys, see baton keys (empty: everybody may call)");
  schema.AddBool("insecure", &settings->insecure,
                 "Allow an address other than loopback without TLS");
}

absl::Status ValidateRouterSettings(const RouterSettings& settings) {
  RETURN_IF_ERROR(ParseSloClasses(settings.slo_classes).status());
  RETURN_IF_ERROR(ValidateFrontTls(settings.tls));
  RETURN_IF_ERROR(ValidateControlTls(settings.control_tls));
  return CheckLoopback(
      "host", settings.host, settings.insecure || settings.tls.any(),
      "give --tls-cert and --tls-key, or add --insecure if the network is trusted");
}

std::unique_ptr<Command> MakeRouterCommand() { return std::make_unique<RouterCommand>(); }

}  // namespace baton
