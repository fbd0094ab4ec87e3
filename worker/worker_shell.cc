#include "worker/worker_shell.h"

#include <algorithm>
#include <atomic>
#include <random>
#include <utility>

#include "absl/strings/str_cat.h"
#include "common/check.h"
#include "kvtransfer/transport/ucx_transport.h"
#include "worker/admin_server.h"
#include "worker/health_page.h"
#include "worker/status_loop.h"

namespace baton {
namespace {

BootId DrawBootId() {
  std::random_device device;  // the one place where chance enters a worker: a restart is a new peer
  uint64_t boot = 0;
  while (boot == 0) boot = (uint64_t{device()} << 32) | device();
  return BootId(boot);
}

std::string DescribeGroup(const ModelShard& shard) {
  if (shard.IsWhole()) return "";
  return absl::StrCat(shard.size, ", tensor parallel by ",
                      shard.split == TensorSplit::kRows ? "rows" : "columns");
}

class WorkerShell final : public WorkerProcess {
 public:
  WorkerShell(const WorkerOptions& options, WorkerParts parts, const WorkerEnvironment& environment)
      : options_(options),
        parts_(std::move(parts)),
        environment_(environment),
        boot_(DrawBootId()),
        metrics_(environment.metrics),
        step_({.load_engine = [this] { return LoadEngine(); },
               .make_role = [this](Engine& engine) { return MakeRole(engine); },
               .calibrate = [this](Engine& engine) { return Calibrate(engine); },
               .send_kv_batch =
                   [this](SessionId session, const KvBatch& batch) {
                     control_->SendKvBatch(session, batch);
                   },
               .hold_replies = [this](bool hold) { control_->HoldReplies(hold); },
               .copies_health = [this] { return copies_.failure(); },
               .status_changed =
                   [this] {
                     if (StatusLoop* status = status_pointer_.load()) status->Notify();
                   }},
              environment.clock, environment.log, metrics_) {}

  ~WorkerShell() override {
    // Routers learn first that the worker goes; then no thread may be left that uses another part.
    if (control_ != nullptr) control_->Close(absl::UnavailableError("the worker stops"));
    admin_.reset();
    step_.Stop();
    status_.reset();
    control_.reset();
  }

  absl::Status Start() {
    if (options_.admin_port >= 0) {
      ASSIGN_OR_RETURN(
          admin_, AdminServer::Start({.host = options_.admin_host, .port = options_.admin_port},
                                     [this](std::string_view path) { return AdminPage(path); }));
    }
    ASSIGN_OR_RETURN(control_,
                     ControlServer::Start({.host = options_.host,
                                           .port = options_.control_port,
                                           .tls = options_.control_tls,
                                           .max_sessions = options_.max_sessions,
                                           .max_outgoing_messages = options_.max_outgoing_messages},
                                          step_, environment_.clock, environment_.log));
    RETURN_IF_ERROR(step_.Start());
    status_ = std::make_unique<StatusLoop>(
        StatusLoopOptions{.heartbeat = options_.heartbeat,
                          .min_interval = options_.status_min_interval,
                          .stats_interval = options_.stats_interval},
        [this] { return step_.Snapshot(); }, *control_, metrics_, environment_.clock,
        environment_.log);
    status_pointer_ = status_.get();
    control_->SendStatus(step_.Snapshot());  // what a router gets behind its Welcome
    control_->SetReady(welcome_);
    loaded_ = true;
    return absl::OkStatus();
  }

  int32_t control_port() const override { return control_->port(); }
  int32_t admin_port() const override { return admin_ == nullptr ? 0 : admin_->port(); }
  BootId boot_id() const override { return boot_; }
  StartupTable startup_table() const override {
    return MakeStartupTable({.worker_id = options_.id,
                             .role = WorkerRoleName(options_.role),
                             .model = welcome_.model,
                             .load = load_,
                             .kv_layout = kv_layout_,
                             .kv_copies = kv_copies_,
                             .num_blocks = welcome_.total_blocks,
                             .max_batch_sequences = welcome_.max_batch_sequences,
                             .num_threads = options_.engine.model.num_threads,
                             .processes = DescribeGroup(options_.engine.model.shard),
                             .placement = options_.placement,
                             .step_model = welcome_.step_model,
                             .transport = transport_,
                             .control_port = control_port(),
                             .admin_port = admin_port()});
  }
  void RequestDrain() override { step_.RequestDrain(); }
  absl::Status WaitUntilDone(absl::Duration timeout) override {
    return step_.WaitUntilDone(timeout);
  }
  absl::Duration CopyAge() const override { return copies_.Age(environment_.clock.Now()); }
  absl::Duration StepAge() const override {
    const StatusSnapshot snapshot = step_.Snapshot();
    return snapshot.step_started.has_value() ? environment_.clock.Now() - *snapshot.step_started
                                             : absl::ZeroDuration();
  }

 private:
  // The step thread, before Start returns.
  absl::StatusOr<std::unique_ptr<Engine>> LoadEngine() {
    EngineOptions options = options_.engine;
    if (options_.role == WorkerRole::kPrefill) options.warm_up = false;  // it decodes nothing
    options.model.note = [this](const LoadNote& note) {
      const LogLevel level = note.warning ? LogLevel::kWarning : LogLevel::kInfo;
      if (note.file.empty()) return environment_.log.Write(level, note.event, {{"what", note.why}});
      environment_.log.Write(level, note.event, {{"file", note.file}, {"why", note.why}});
    };
    LoadMeter meter(environment_.clock.Now());
    ASSIGN_OR_RETURN(std::unique_ptr<Engine> engine,
                     parts_.load_engine(options, [&](int64_t done, int64_t total) {
                       load_done_bytes_ = done;
                       load_total_bytes_ = total;
                       ShowLoading(meter, meter.Update(done, total, environment_.clock.Now()));
                     }));
    load_ = meter.point();
    return engine;
  }
  void ShowLoading(const LoadMeter& meter, bool line_is_due) {
    if (options_.show_loading) return options_.show_loading(meter.point());
    if (line_is_due) {
      environment_.log.Info("loading weights", {{"progress", meter.point().Numbers()}});
    }
  }

  // The step thread, before Start returns.
  StepModel Calibrate(Engine& engine) {
    if (!options_.calibrate) return {};
    const absl::StatusOr<StepModel> model =
        engine.Calibrate(options_.calibration_budget, environment_.clock);
    if (!model.ok()) {
      environment_.log.Warning("no step times: calibration failed",
                               {{"why", model.status().ToString()}});
      return {};
    }
    step_model_ = *model;
    return *model;
  }

  // The step thread, before Start returns: what it fills is read only afterwards.
  absl::StatusOr<std::unique_ptr<Role>> MakeRole(Engine& engine) {
    ASSIGN_OR_RETURN(MadeRole made, parts_.make_role({.options = options_,
                                                      .environment = environment_,
                                                      .boot = boot_,
                                                      .engine = engine,
                                                      .routers = *control_,
                                                      .copies = copies_,
                                                      .post_handoff = [this](HandoffEvent event) {
                                                        step_.PostHandoff(std::move(event));
                                                      }}));
    const KvMemory& kv = engine.kv_memory();
    kv_layout_ = kv.layout;
    kv_copies_ = kv.copies;
    transport_ = made.transport;
    if (made.kv_direct) {
      environment_.log.Info("KV handoffs go from and to GPU memory", {{"ucx", UcxVersion()}});
    } else if (!made.why_kv_staged.empty()) {
      environment_.log.Warning("KV handoffs go through host memory", {{"why", made.why_kv_staged}});
    }
    welcome_ = {.worker_id = options_.id,
                .boot = boot_,
                .role = options_.role,
                .model = engine.model(),
                .block_size = kv.layout.block_size,
                .total_blocks = kv.num_blocks,
                .max_batch_sequences = options_.engine.scheduler.max_batch_sequences,
                .max_batch_tokens = options_.engine.scheduler.max_batch_tokens,
                .prefill_credits = options_.prefill_credits,
                .paced_prefill =
                    step_model_.known() && options_.engine.scheduler.chunking == Chunking::kAuto,
                .kv_address = made.kv_address,
                .layout_fingerprint = kv.layout.Fingerprint(engine.model().fingerprint),
                .step_model = step_model_};
    // The operator may serve less than the model's own context.
    if (const int32_t served = options_.engine.scheduler.max_model_len; served > 0) {
      welcome_.model.max_model_len = std::min(welcome_.model.max_model_len, served);
    }
    return std::move(made.role);
  }

  // The admin thread.
  AdminResponse AdminPage(std::string_view path) {
    if (path == "/metrics") {
      return {.content_type = "text/plain; version=0.0.4; charset=utf-8",
              .body = environment_.metrics.Render()};
    }
    HealthFacts facts{.load_done_bytes = load_done_bytes_,
                      .load_total_bytes = load_total_bytes_,
                      .version = options_.version};
    if (loaded_) {
      const StatusSnapshot snapshot = step_.Snapshot();
      facts.phase = snapshot.engine_broken   ? WorkerPhase::kBroken
                    : snapshot.role.draining ? WorkerPhase::kDraining
                                             : WorkerPhase::kReady;
    }
    return HealthPage(path, facts);
  }

  const WorkerOptions options_;
  const WorkerParts parts_;
  const WorkerEnvironment environment_;
  const BootId boot_;
  WorkerMetrics metrics_;

  // Filled while loading, constant afterwards.
  WelcomeInfo welcome_;
  KvLayout kv_layout_;
  int32_t kv_copies_ = 1;  // see KvMemory
  StepModel step_model_;
  std::string transport_;
  LoadPoint load_;  // the last one
  std::atomic<int64_t> load_done_bytes_{0};
  std::atomic<int64_t> load_total_bytes_{0};
  std::atomic<bool> loaded_{false};

  KvCopyWatch copies_;
  std::atomic<StatusLoop*> status_pointer_{nullptr};  // null until status_ exists
  StepLoop step_;
  std::unique_ptr<ControlServer> control_;
  std::unique_ptr<StatusLoop> status_;
  std::unique_ptr<AdminServer> admin_;
};

}  // namespace

std::string_view WorkerRoleName(WorkerRole role) {
  switch (role) {
    case WorkerRole::kPrefill:
      return "prefill";
    case WorkerRole::kDecode:
      return "decode";
    case WorkerRole::kBoth:
      return "both";
  }
  return "unknown";
}

absl::StatusOr<std::unique_ptr<WorkerProcess>> StartWorker(const WorkerOptions& options,
                                                           WorkerParts parts,
                                                           const WorkerEnvironment& environment) {
  if (options.prefill_credits < 1 || options.max_sessions < 1 ||
      options.max_outgoing_messages < 1) {
    return absl::InvalidArgumentError(
        "prefill_credits, max_sessions and max_outgoing_messages must be at least 1");
  }
  auto worker = std::make_unique<WorkerShell>(options, std::move(parts), environment);
  RETURN_IF_ERROR(worker->Start());
  return std::unique_ptr<WorkerProcess>(std::move(worker));
}

}  // namespace baton
