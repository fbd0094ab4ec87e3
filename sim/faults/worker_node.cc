#include "sim/faults/worker_node.h"

#include <algorithm>
#include <utility>

#include "absl/strings/str_cat.h"
#include "common/strings.h"
#include "decode_worker/decode_core.h"
#include "prefill_worker/prefill_core.h"

namespace baton::sim {
namespace {

constexpr absl::Duration kPeerTimeout = absl::Seconds(3);
constexpr absl::Duration kDrainTimeout = absl::Seconds(5);
constexpr absl::Duration kMostKvWait = absl::Microseconds(300);
// Nothing could be planned while there was work: blocks are pinned elsewhere.
constexpr absl::Duration kPlanAgain = absl::Milliseconds(5);

const StepModel kSteps{.prefill_base_ms = 2,
                       .prefill_token_ms = 0.5,
                       .prefill_pair_ms = 0.001,
                       .decode_base_ms = 4,
                       .decode_row_ms = 0.5,
                       .decode_context_ms = 0.002,
                       .profiled_prefill_tokens = 64,
                       .profiled_decode_rows = 16,
                       .profiled_context_tokens = 1024};

}  // namespace

KvLayout WorkerNode::Layout() {
  return {.num_layers = kLayers, .num_kv_heads = 1, .head_dim = 2, .block_size = kToyBlockSize};
}

HandoffCoreOptions WorkerNode::HandoffOptions() const {
  HandoffCoreOptions options;
  options.layout = Layout();
  options.num_blocks = shape_.blocks;
  options.layout_fingerprint = Layout().Fingerprint(kModelFingerprint);
  options.boot = id_.boot;
  options.worker_name = name_;
  options.max_bytes_in_flight = 8 * Layout().BlockBytes();  // tight: the window is exercised
  options.max_message_bytes = 3 * Layout().BlockBytes();
  options.peer_timeout = kPeerTimeout;
  options.drain_timeout = kDrainTimeout;
  return options;
}

std::unique_ptr<Scheduler> WorkerNode::MakeScheduler() const {
  SchedulerOptions options;
  options.block_size = kToyBlockSize;
  options.num_blocks = shape_.blocks;
  options.max_model_len = kToyMaxModelLen;
  options.vocab_size = kToyVocab;
  options.max_batch_sequences = kMaxBatchSequences;
  options.max_batch_tokens = shape_.batch_tokens;
  options.prefill_chunk_tokens = shape_.batch_tokens;
  options.eos_tokens = {kToyEos};
  options.mutations = world_.mutations.scheduler;
  return Scheduler::Create(options);
}

// ------------------------------------------------------------------ ports of the role's core

class WorkerNode::Sending final : public SendingPort {
 public:
  explicit Sending(WorkerNode& node) : node_(node) {}
  void Open(SendSpec spec) override {
    node_.world_.network.SourceOpened(node_, spec.ticket);
    node_.PostKv([this, spec = std::move(spec)] { node_.sender_->Open(spec, node_.Now()); });
  }
  void Push(RequestKey key, int32_t layer, int32_t first_block,
            std::vector<BlockId> blocks) override {
    node_.PostKv([this, key, layer, first_block, blocks = std::move(blocks)] {
      node_.sender_->Push(key, layer, first_block, blocks, node_.Now());
    });
  }
  void Finish(RequestKey key, HandoffTail tail) override {
    node_.PostKv(
        [this, key, tail = std::move(tail)] { node_.sender_->Finish(key, tail, node_.Now()); });
  }
  void Abort(RequestKey key) override {
    node_.PostKv([this, key] { node_.sender_->Abort(key, node_.Now()); });
  }

 private:
  WorkerNode& node_;
};

class WorkerNode::Landing final : public LandingPort {
 public:
  explicit Landing(WorkerNode& node) : node_(node) {}
  Ticket Open(LandingSpec spec) override {
    Ticket ticket{.key = spec.key,
                  .receiver_boot = node_.id_.boot,
                  .generation = ++generation_,
                  .layout_fingerprint = Layout().Fingerprint(kModelFingerprint),
                  .first_block = spec.first_block,
                  .num_blocks = static_cast<int32_t>(spec.blocks.size())};
    ticket.mac = SignTicket(ticket, "a key of the simulation");
    node_.world_.network.LandingOpened(node_, ticket, spec.blocks);
    node_.PostKv([this, spec = std::move(spec), ticket] {
      node_.receiver_->Open(spec, ticket, node_.Now());
    });
    return ticket;
  }
  void Abort(RequestKey key) override {
    node_.PostKv([this, key] { node_.receiver_->Abort(key, node_.Now()); });
  }

 private:
  WorkerNode& node_;
  uint64_t generation_ = 0;
};

// In the shells the handoffs have a thread of their own: what it is asked for waits a moment, in
// which other things happen to it.
void WorkerNode::PostKv(std::function<void()> command) {
  if (kv_mailbox_.empty()) {
    kv_turn_at_ = world_.events.now() + random_.Between(absl::ZeroDuration(), kMostKvWait);
  }
  kv_mailbox_.push_back(std::move(command));
}

void WorkerNode::HandleKvCommands() {
  for (; !kv_mailbox_.empty(); kv_mailbox_.pop_front()) kv_mailbox_.front()();
  kv_turn_at_ = absl::InfiniteFuture();
}

// ------------------------------------------------------------------

WorkerNode::WorkerNode(ProcessId id, const WorkerShape& shape, const Surroundings& world,
                       uint64_t seed)
    : id_(id),
      shape_(shape),
      name_(absl::StrCat(View(router::RoleName(shape.role)), "-", id.worker)),
      world_(world),
      random_(seed),
      memory_(kLayers, shape.blocks),
      step_model_(kSteps),
      scheduler_(MakeScheduler()),
      table_({.model_fingerprint = kModelFingerprint}) {
  scheduler_->SetStepModel(&step_model_);
  const HandoffCoreOptions handoff = HandoffOptions();
  const Mutations& mutations = world.mutations;
  RouterPort& routers = *this;
  if (shape.role == router::Role::kPrefill) {
    sender_ = std::make_unique<SenderCore>(handoff, mutations.handoff);
    sending_ = std::make_unique<Sending>(*this);
    core_ = std::make_unique<PrefillCore>(PrefillCoreOptions{.num_layers = kLayers,
                                                             .block_size = kToyBlockSize,
                                                             .credits = kCredits,
                                                             .mutations = mutations.worker},
                                          *scheduler_, *sending_, routers);
  } else {
    receiver_ = std::make_unique<ReceiverCore>(handoff, mutations.handoff);
    landing_ = std::make_unique<Landing>(*this);
    core_ = std::make_unique<DecodeCore>(
        DecodeCoreOptions{.block_size = kToyBlockSize,
                          .vocab_size = kToyVocab,
                          .max_batch_sequences = kMaxBatchSequences,
                          .colocated = shape.role == router::Role::kBoth,
                          .credits = kCredits,
                          .mutations = mutations.worker},
        *scheduler_, *landing_, routers);
  }
  next_status_ = Now() + kHeartbeat;
}

WorkerNode::~WorkerNode() = default;

// ------------------------------------------------------------------ turns

void WorkerNode::Turn() {
  do {
    world_.network.Settle(*this);
    HandleInbox();
    world_.network.Settle(*this);
  } while (!step_.has_value() && !inbox_.empty());
  if (!step_.has_value()) BeginStep();
  world_.network.Settle(*this);
  TellKvChanges();
  TellStatus(/*heartbeat=*/false);
  scheduler_->CheckInvariants();
  core_->CheckInvariants();
}

void WorkerNode::HandleInbox() {
  if (step_.has_value()) return;  // until the layer's end
  if (scheduler_->InStep()) return HandleDuringStep();
  while (!inbox_.empty()) {
    Input input = std::move(inbox_.front());
    inbox_.pop_front();
    Handle(std::move(input));
  }
}

// As the step loop does: what may not be handled between Plan and Commit waits, and holds back what
// came after it.
void WorkerNode::HandleDuringStep() {
  for (; !inbox_.empty(); inbox_.pop_front()) {
    const auto* command = std::get_if<SessionCommand>(&inbox_.front());
    const bool must_wait = command != nullptr && !FitsIntoStep(command->command);
    if (must_wait || !deferred_.empty()) {
      deferred_.push_back(std::move(inbox_.front()));
    } else {
      Handle(std::move(inbox_.front()));
    }
  }
}

void WorkerNode::Handle(Input input) {
  if (auto* command = std::get_if<SessionCommand>(&input)) {
    const auto session = sessions_.find(command->session);
    if (session == sessions_.end() || !session->second.live) return;
    if (std::holds_alternative<KvResyncCommand>(command->command)) {
      return TellKvSnapshot(session->second);
    }
    core_->OnCommand(command->session, std::move(command->command), Now());
  } else if (const auto* started = std::get_if<SessionStarted>(&input)) {
    const auto session = sessions_.find(started->session);
    if (session == sessions_.end()) return;
    session->second.live = true;
    TellKvSnapshot(session->second);
  } else if (const auto* ended = std::get_if<SessionEnded>(&input)) {
    core_->OnSessionEnd(ended->session, Now());
    if (sessions_.empty() && core_->view().open > 0) {
      throw Violation(absl::StrCat("H5: ", name_, " works on for a router that is gone"));
    }
  } else {
    core_->OnHandoff(std::get<HandoffEvent>(input), Now());
  }
}

void WorkerNode::BeginStep() {
  core_->OnTime(Now());
  retry_plan_at_ = absl::InfiniteFuture();
  std::vector<SequenceEvent> early = scheduler_->TakeEvents();
  if (!early.empty()) {
    TellResult();
    core_->OnStep({.events = std::move(early)}, Now());
  }
  if (!scheduler_->HasWork()) return TellResult();
  const bool is_ahead = scheduler_->InStep();  // the device is at it
  const StepPlan& plan = scheduler_->Plan();
  std::vector<BlockId> last_blocks =
      is_ahead ? std::move(last_blocks_ahead_) : ToyStep::LastBlocks(plan);
  const bool may_run_ahead =
      shape_.on_device && !plan.empty() && inbox_.empty() && deferred_.empty();
  if (may_run_ahead) last_blocks_ahead_ = ToyStep::LastBlocks(scheduler_->PlanAhead());
  TellResult();
  if (plan.empty()) {
    early = scheduler_->TakeEvents();
    if (!early.empty()) core_->OnStep({.events = std::move(early)}, Now());
    retry_plan_at_ = Now() + kPlanAgain;
    return;
  }
  step_.emplace(*scheduler_, plan, memory_, kLayers, std::move(last_blocks));
  step_started_ = Now();
  const double ms = kSteps.PredictMs(step_->shape()) * step_factor_;
  layer_time_ = absl::Milliseconds(ms) / kLayers;
  step_event_at_ = world_.events.now() + layer_time_;
  if (world_.history.recording()) {
    Log(absl::StrCat("step of ", plan.rows.size(), " rows, ", plan.num_tokens, " tokens"));
  }
}

void WorkerNode::StepEvent() {
  step_event_at_ = absl::InfiniteFuture();
  const int32_t layer = step_->layer();
  step_->RunLayer();
  core_->OnLayer(layer, step_->plan(), step_started_);
  world_.network.Settle(*this);
  HandleDuringStep();
  if (!step_->LayersDone()) {
    step_event_at_ = world_.events.now() + layer_time_;
    return;
  }
  const StepShape shape = step_->shape();
  StepResult result{.events = step_->Finish(), .prompt_logprobs = {}, .shape = shape};
  step_.reset();
  const double ms = absl::ToDoubleMilliseconds(Now() - step_started_);
  step_model_.Observe(shape, ms);
  step_ms_ewma_ = steps_completed_++ == 0 ? ms : 0.9 * step_ms_ewma_ + 0.1 * ms;
  untold_ = std::move(result);
  const bool may_wait = shape_.on_device && shape.decode_rows > 0 && shape.prefill_tokens == 0 &&
                        scheduler_->HasWork();
  if (!may_wait) TellResult();
  // What waited comes before what arrived later.
  for (; !deferred_.empty(); deferred_.pop_back()) {
    inbox_.push_front(std::move(deferred_.back()));
  }
}

void WorkerNode::TellResult() {
  if (untold_.has_value()) core_->OnStep(*std::exchange(untold_, std::nullopt), Now());
}

void WorkerNode::OnTime() {
  const absl::Time now = Now();
  if (kv_turn_at_ <= world_.events.now()) HandleKvCommands();
  if (sender_ != nullptr && sender_->NextDeadline() <= now) sender_->Tick(now);
  if (receiver_ != nullptr && receiver_->NextDeadline() <= now) receiver_->Tick(now);
  if (!step_.has_value()) core_->OnTime(now);
  for (const SessionTable::Expired& expired : table_.TakeExpired(now)) {
    EndSession(expired.session, expired.reason);
  }
  if (next_status_ <= now) TellStatus(/*heartbeat=*/true);
}

absl::Time WorkerNode::NextTime() const {
  absl::Time next = std::min(next_status_, retry_plan_at_);
  if (!step_.has_value()) next = std::min(next, core_->NextDeadline());
  if (sender_ != nullptr) next = std::min(next, sender_->NextDeadline());
  if (receiver_ != nullptr) next = std::min(next, receiver_->NextDeadline());
  return std::min(next - clock_offset_, kv_turn_at_);
}

// ------------------------------------------------------------------ what the run looks at

bool WorkerNode::WorksFor(RequestId request, uint32_t attempts, bool or_waits) const {
  for (uint32_t attempt = 1; attempt <= attempts; ++attempt) {
    const RequestKey key{request, attempt};
    std::string_view state = "none";
    if (const auto* prefill = dynamic_cast<const PrefillCore*>(core_.get())) {
      state = prefill->StateName(key);
    } else if (const auto* decode = dynamic_cast<const DecodeCore*>(core_.get())) {
      state = decode->StateName(key);
    }
    if (state != "none" && (or_waits || state != "closing")) return true;
  }
  return false;
}

bool WorkerNode::HasSession(uint64_t router_life) const {
  return std::any_of(sessions_.begin(), sessions_.end(), [&](const auto& each) {
    return each.second.session->router_life == router_life;
  });
}

void WorkerNode::CheckAtRest() const {
  const RoleView view = core_->view();
  const BlockCensus blocks = scheduler_->Census();
  if (!view.idle()) {
    throw Violation(absl::StrCat("H5: ", name_, " still holds ", view.open, " open and ",
                                 view.closing, " closing requests"));
  }
  if (blocks.free + blocks.cached != shape_.blocks) {
    throw Violation(absl::StrCat("H5: ", name_, " has ", blocks.free, " free and ", blocks.cached,
                                 " cached blocks of ", shape_.blocks, " at rest"));
  }
  if (sender_ != nullptr) {
    const SenderCensus census = sender_->census();
    if (census.active + census.draining + census.posted_sends != 0) {
      throw Violation(absl::StrCat("H5: the sender of ", name_, " still holds something"));
    }
  }
  if (receiver_ != nullptr) {
    const ReceiverCensus census = receiver_->census();
    if (census.open + census.landing + census.quarantined + census.posted_receives +
            census.waiting_payloads !=
        0) {
      throw Violation(absl::StrCat("H5: the receiver of ", name_, " still holds something"));
    }
  }
}

}  // namespace baton::sim
