#include "worker/step_loop.h"

#include <algorithm>
#include <utility>

#include "common/check.h"
#include "common/strings.h"

namespace baton {
namespace {

// Each accepted key owes two handoff events at most and each session two, so this is never full.
constexpr size_t kInboxCapacity = size_t{1} << 20;
// Sleep of an idle loop: events wake it, deadlines shorten it.
constexpr absl::Duration kIdleSleep = absl::Seconds(1);
// Weight of the newest step in the moving average of step times.
constexpr double kStepWeight = 0.1;

}  // namespace

StepLoop::StepLoop(StepLoopHooks hooks, const Clock& clock, Logger& log, WorkerMetrics& metrics,
                   int32_t max_commands)
    : hooks_(std::move(hooks)),
      clock_(clock),
      log_(log),
      metrics_(metrics),
      max_commands_(max_commands),
      inbox_(kInboxCapacity) {}

StepLoop::~StepLoop() { Stop(); }

absl::Status StepLoop::Start() {
  thread_ = std::thread([this] { Run(); });
  absl::MutexLock lock(&mutex_);
  const auto is_started = [this]() ABSL_EXCLUSIVE_LOCKS_REQUIRED(mutex_) {
    return started_.has_value();
  };
  mutex_.Await(absl::Condition(&is_started));
  return *started_;
}

void StepLoop::Stop() {
  stopping_ = true;
  inbox_.Close();
  if (thread_.joinable()) thread_.join();
}

// ------------------------------------------------------------------ any thread

void StepLoop::OnSessionStart(SessionId session) { PushOrDie(SessionStarted{session}); }

bool StepLoop::OnCommand(SessionId session, WorkerCommand command) {
  if (commands_queued_.fetch_add(1) >= max_commands_) {
    --commands_queued_;
    return false;
  }
  PushOrDie(SessionCommand{session, std::move(command)});
  return true;
}

void StepLoop::OnSessionEnd(SessionId session) { PushOrDie(SessionEnded{session}); }
void StepLoop::PostHandoff(HandoffEvent event) { PushOrDie(std::move(event)); }
void StepLoop::RequestDrain() { PushOrDie(DrainRequested{}); }

void StepLoop::PushOrDie(Input input) {
  const bool pushed = inbox_.Push(std::move(input));
  BATON_CHECK(pushed || inbox_.closed()) << "the step loop's inbox is full";
}

StatusSnapshot StepLoop::Snapshot() const {
  absl::MutexLock lock(&mutex_);
  return snapshot_;
}

absl::Status StepLoop::WaitUntilDone(absl::Duration timeout) {
  absl::MutexLock lock(&mutex_);
  const auto is_done = [this]() ABSL_EXCLUSIVE_LOCKS_REQUIRED(mutex_) {
    return snapshot_.engine_broken || (snapshot_.role.draining && snapshot_.role.idle());
  };
  if (!mutex_.AwaitWithTimeout(absl::Condition(&is_done), timeout)) {
    return absl::DeadlineExceededError(
        absl::StrCat(snapshot_.role.open + snapshot_.role.closing, " requests are still held"));
  }
  if (snapshot_.engine_broken) return absl::InternalError("the engine broke; see the log");
  return absl::OkStatus();
}

// ------------------------------------------------------------------ the step thread

void StepLoop::Run() {
  const absl::Status status = Load();
  if (status.ok()) Publish();
  {
    absl::MutexLock lock(&mutex_);
    started_ = status;
  }
  if (status.ok()) Loop();
  // The KV shell reads and writes the engine's memory: it goes first.
  role_.reset();
  engine_.reset();
}

absl::Status StepLoop::Load() {
  ASSIGN_OR_RETURN(engine_, hooks_.load_engine());
  step_model_.emplace(hooks_.calibrate(*engine_));
  if (step_model_->model().known()) engine_->scheduler().SetStepModel(&*step_model_);
  ASSIGN_OR_RETURN(role_, hooks_.make_role(*engine_));
  return absl::OkStatus();
}

void StepLoop::Loop() {
  while (!stopping_) {
    // A device may be at the next step already.
    if (!broken_ && engine_->scheduler().InStep()) {
      HandleDuringStep();
    } else {
      HandleBetweenSteps();
    }
    role_->core().OnTime(clock_.Now());
    if (!broken_) CheckHealth();
    if (!broken_) Step();
    TellKvChanges();
    Publish();
  }
  TellResult();
}

void StepLoop::HandleBetweenSteps() {
  RoleCore& core = role_->core();
  std::vector<Input> inputs = std::exchange(deferred_, {});
  const bool may_sleep = inputs.empty() && (broken_ || !engine_->scheduler().HasWork());
  const absl::Duration sleep =
      may_sleep ? std::min(kIdleSleep, core.NextDeadline() - clock_.Now()) : absl::ZeroDuration();
  for (Input& input :
       sleep > absl::ZeroDuration() ? inbox_.WaitAndTakeAll(sleep) : inbox_.TakeAll()) {
    inputs.push_back(std::move(input));
  }
  for (Input& input : inputs) Handle(std::move(input));
}

void StepLoop::Handle(Input input) {
  RoleCore& core = role_->core();
  const absl::Time now = clock_.Now();
  if (auto* command = std::get_if<SessionCommand>(&input)) {
    --commands_queued_;
    // The session may have ended while its command was on the way: nobody would abort it later.
    if (!live_sessions_.contains(command->session)) return;
    if (std::holds_alternative<KvResyncCommand>(command->command)) {
      return TellKvSnapshot(command->session);
    }
    core.OnCommand(command->session, std::move(command->command), now);
  } else if (const auto* started = std::get_if<SessionStarted>(&input)) {
    TellKvSnapshot(started->session);
  } else if (const auto* ended = std::get_if<SessionEnded>(&input)) {
    live_sessions_.erase(ended->session);
    core.OnSessionEnd(ended->session, now);
  } else if (const auto* event = std::get_if<HandoffEvent>(&input)) {
    core.OnHandoff(*event, now);
  } else {
    core.OnDrain();
  }
}

void StepLoop::HandleDuringStep() {
  for (Input& input : inbox_.TakeAll()) {
    const auto* command = std::get_if<SessionCommand>(&input);
    const bool must_wait = command != nullptr && !FitsIntoStep(command->command);
    if (must_wait || !deferred_.empty()) {
      deferred_.push_back(std::move(input));
    } else {
      Handle(std::move(input));
    }
  }
}

void StepLoop::Step() {
  RoleCore& core = role_->core();
  std::vector<SequenceEvent> early = engine_->scheduler().TakeEvents();
  if (!early.empty()) {
    TellResult();  // it came before
    core.OnStep({.events = std::move(early)}, clock_.Now());
  }
  if (!engine_->scheduler().HasWork()) return TellResult();
  const absl::Time start = clock_.Now();
  step_started_ = start;
  {
    absl::MutexLock lock(&mutex_);
    snapshot_.step_started = start;
  }
  absl::StatusOr<StepResult> result = engine_->Step(
      [&](int32_t layer, const StepPlan& plan) {
        core.OnLayer(layer, plan, start);
        HandleDuringStep();
      },
      [&] {
        if (!untold_.has_value()) return;
        TellResult();
        Publish();  // else what has become free is known a step later
      },
      /*may_run_ahead=*/inbox_.empty() && deferred_.empty());
  step_started_.reset();
  TellResult();  // nothing was to compute
  if (!result.ok()) return OnEngineBroken(result.status());
  const absl::Time end = clock_.Now();
  const double step_ms = absl::ToDoubleMilliseconds(end - start);
  step_ms_ewma_ =
      steps_completed_ == 0 ? step_ms : (1.0 - kStepWeight) * step_ms_ewma_ + kStepWeight * step_ms;
  ++steps_completed_;
  if (result->started_ahead) metrics_.CountStepAhead();
  metrics_.ObserveStep(result->shape, end - start,
                       absl::Milliseconds(step_model_->PredictMs(result->shape)));
  step_model_->Observe(result->shape, step_ms);
  // First tokens do not wait, and nothing does that no step would follow.
  const StepShape& shape = result->shape;
  const bool may_wait = engine_->on_device() && shape.decode_rows > 0 &&
                        shape.prefill_tokens == 0 && engine_->scheduler().HasWork();
  untold_ = *std::move(result);
  if (!may_wait) TellResult();
}

void StepLoop::TellResult() {
  if (!untold_.has_value()) return;
  StepResult result = *std::exchange(untold_, std::nullopt);
  hooks_.hold_replies(true);
  role_->core().OnStep(std::move(result), clock_.Now());
  hooks_.hold_replies(false);
}

// A device may break with nothing to compute, under a copy of KV or by itself.
void StepLoop::CheckHealth() {
  absl::Status health = engine_->Health();
  health.Update(hooks_.copies_health());
  if (!health.ok()) OnEngineBroken(health);
}

void StepLoop::OnEngineBroken(const absl::Status& status) {
  log_.Error("the engine broke", {{"status", status.ToString()}});
  broken_ = true;
  TellResult();
  role_->core().OnEngineBroken(status, clock_.Now());
}

void StepLoop::TellKvChanges() {
  KvBatch batch{.changes = engine_->scheduler().TakePrefixChanges()};
  if (batch.changes.empty()) return;
  for (auto& [session, live] : live_sessions_) {
    batch.sequence = ++live.kv_batches;
    hooks_.send_kv_batch(session, batch);
  }
}

// What the others have not been told yet is part of it: they hear of it first. Of a new session it
// is the first batch.
void StepLoop::TellKvSnapshot(SessionId session) {
  TellKvChanges();
  LiveSession& live = live_sessions_[session];
  hooks_.send_kv_batch(session, {.sequence = ++live.kv_batches,
                                 .snapshot = true,
                                 .changes = {.stored = engine_->scheduler().PrefixHashes()}});
}

void StepLoop::Publish() {
  StatusSnapshot fresh = TakeSnapshot(role_->core(), engine_->scheduler(), *step_model_);
  fresh.step_started = step_started_;
  fresh.steps_completed = steps_completed_;
  fresh.step_ms_ewma = step_ms_ewma_;
  fresh.engine_broken = broken_;
  bool differs = false;
  {
    absl::MutexLock lock(&mutex_);
    differs = fresh.DispatchDiffers(snapshot_);
    snapshot_ = fresh;
  }
  if (differs) hooks_.status_changed();
}

}  // namespace baton
