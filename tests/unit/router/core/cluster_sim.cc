#include "tests/unit/router/core/cluster_sim.h"

#include <algorithm>
#include <utility>

#include "absl/strings/str_cat.h"
#include "common/hash.h"

namespace baton::router {
namespace {

constexpr char kPrompts[] = "too many prompts";

CoreOptions CoreOptionsOf(const SimOptions& options) {
  CoreOptions core;
  core.cluster.num_workers =
      options.prefill_workers + options.decode_workers + options.both_workers;
  core.queue.max_requests = 64;
  return core;
}

}  // namespace

ClusterSim::ClusterSim(const SimOptions& options)
    : options_(options), random_(options.seed), core_(CoreOptionsOf(options)) {
  const auto add = [this](Role role, int32_t count) {
    for (int32_t i = 0; i < count; ++i) workers_.push_back({.role = role});
  };
  add(Role::kPrefill, options.prefill_workers);
  add(Role::kDecode, options.decode_workers);
  add(Role::kBoth, options.both_workers);
}

TokenId ClusterSim::TokenAt(RequestId request, int32_t sample, int32_t index) {
  return static_cast<TokenId>(
      HashCombine(HashCombine(request.value(), static_cast<uint64_t>(sample)),
                  static_cast<uint64_t>(index)) %
      1000);
}

int32_t ClusterSim::Pick(int32_t bound) {
  return static_cast<int32_t>(random_() % static_cast<uint64_t>(bound));
}

bool ClusterSim::Chance(double probability) {
  return static_cast<double>(random_() >> 11) * 0x1.0p-53 < probability;
}

void ClusterSim::Violate(const std::string& what) {
  if (report_.violation.empty()) report_.violation = what;
}

SimReport ClusterSim::Run() {
  for (size_t i = 0; i < workers_.size(); ++i) {
    Revive(workers_[i], WorkerIndex(static_cast<int32_t>(i)));
  }
  for (int32_t step = 0; step < options_.steps && report_.violation.empty(); ++step) Step();
  if (report_.violation.empty()) Settle();
  return report_;
}

// ------------------------------------------------------------------ the schedule

void ClusterSim::Step() {
  const auto index = WorkerIndex(Pick(static_cast<int32_t>(workers_.size())));
  Worker& worker = workers_[static_cast<size_t>(index.value())];
  if (Chance(options_.death_rate)) {
    worker.alive ? Kill(worker, index) : Revive(worker, index);
  }
  if (static_cast<int32_t>(clients_.size()) < options_.requests && Chance(0.15)) SubmitOne();
  if (!clients_.empty() && Chance(options_.cancel_rate)) {
    const auto victim = RequestId(1 + static_cast<uint64_t>(Pick(options_.requests)));
    Feed(CancelEvent{victim});
  }
  switch (Pick(8)) {
    case 0:
    case 1:
      TakeCommand(worker, index);
      break;
    case 2:
    case 3:
    case 4:
      DeliverOne(worker);
      break;
    case 5:
      Work(worker, index);
      break;
    case 6:
      MoveTransfer(true);
      break;
    case 7:
      now_ += absl::Milliseconds(Pick(40));
      Report(worker, index);
      Tick();
      break;
  }
}

// Everybody is up and nothing fails any more: every request must end, and nothing stay held.
void ClusterSim::Settle() {
  calm_ = true;
  for (size_t i = 0; i < workers_.size(); ++i) {
    const WorkerIndex index(static_cast<int32_t>(i));
    if (!workers_[i].alive) Revive(workers_[i], index);
  }
  for (int32_t round = 0; round < 2000 && report_.violation.empty() && AnyoneBusy(); ++round) {
    now_ += absl::Milliseconds(100);
    for (size_t i = 0; i < workers_.size(); ++i) {
      const WorkerIndex index(static_cast<int32_t>(i));
      while (TakeCommand(workers_[i], index)) {
      }
      Work(workers_[i], index);
      Report(workers_[i], index);
      while (DeliverOne(workers_[i])) {
      }
    }
    MoveTransfer(false);
    Tick();
  }
  if (!report_.violation.empty()) return;
  for (const auto& [id, client] : clients_) {
    if (!client.terminal) Violate(absl::StrCat("request ", id.value(), " never ended"));
  }
  for (const Worker& worker : workers_) {
    if (!worker.keys.empty()) {
      Violate(absl::StrCat("a worker still holds request ",
                           worker.keys.begin()->first.request.value()));
    }
  }
  for (const WorkerState& state : core_.cluster().workers()) {
    if (state.placed_prefills != 0 || state.placed_decodes != 0) {
      Violate(absl::StrCat("counts are not zero: ", state.placed_prefills, " prefills, ",
                           state.placed_decodes, " decodes"));
    }
  }
  if (core_.num_running() != 0 || core_.num_waiting() != 0) Violate("the core is not empty");
}

bool ClusterSim::AnyoneBusy() const {
  const bool open = std::any_of(clients_.begin(), clients_.end(),
                                [](const auto& each) { return !each.second.terminal; });
  return open || !transfers_.empty() ||
         std::any_of(workers_.begin(), workers_.end(), [](const Worker& worker) {
           return !worker.inbox.empty() || !worker.outbox.empty() || !worker.keys.empty();
         });
}

void ClusterSim::SubmitOne() {
  const RequestId id(next_request_++);
  auto spec = std::make_shared<GenerationSpec>();
  spec->prompt_length = 1 + Pick(40);
  for (int32_t i = 0; i < spec->prompt_length; ++i) spec->tokens.push_back(Pick(1000));
  spec->num_samples = Chance(0.3) ? 3 : 1;
  spec->stopping.max_tokens = 1 + Pick(6);
  Client& client = clients_[id];
  const auto samples = static_cast<size_t>(spec->num_samples);
  client.shown.assign(samples, 0);
  client.ended.assign(samples, false);
  for (size_t i = 0; i < samples; ++i) {
    client.length.push_back(1 + Pick(spec->stopping.max_tokens));
    client.stop_at.push_back(Chance(options_.stop_rate) ? Pick(4) : -1);
  }
  client.spec = spec;
  const absl::Duration timeout = Chance(0.1) ? absl::Milliseconds(500) : absl::Seconds(30);
  Feed(SubmitEvent{.request = id,
                   .spec = spec,
                   .arrival = now_,
                   .timeout = timeout,
                   .slo = options_.step_models ? SloTarget{.ttft_ms = 30, .tpot_ms = 12}
                                               : SloTarget{.ttft_ms = 100, .tpot_ms = 50}});
}

// ------------------------------------------------------------------ workers

void ClusterSim::Kill(Worker& worker, WorkerIndex index) {
  worker.alive = false;
  worker.inbox.clear();
  worker.keys.clear();
  // What was under way may or may not arrive; then the session ends.
  worker.outbox.resize(static_cast<size_t>(Pick(static_cast<int32_t>(worker.outbox.size()) + 1)));
  worker.outbox.push_back(WorkerDownEvent{{index, worker.session}, "killed"});
}

void ClusterSim::Revive(Worker& worker, WorkerIndex index) {
  worker.alive = true;
  worker.highest_attempt.clear();
  worker.session = SessionId(next_session_++);
  WorkerUpEvent up{.from = {index, worker.session}};
  up.info = {.id = absl::StrCat("worker-", index.value()),
             .boot = BootId(worker.session.value()),
             .role = worker.role,
             .protocol_version = 1,
             .model_fingerprint = 7,
             .max_model_len = 100,
             .block_size = 16,
             .total_blocks = 100,
             .max_batch_sequences = 8,
             .prefill_credits = 2};
  if (options_.step_models) {
    up.info.max_batch_tokens = 64;
    up.info.paced_prefill = true;
    up.info.step_model = {.prefill_base_ms = 1,
                          .prefill_token_ms = 0.5,
                          .decode_base_ms = 5,
                          .decode_row_ms = 2,
                          .profiled_prefill_tokens = 64,
                          .profiled_decode_rows = 8};
  }
  worker.outbox.push_back(up);
  if (options_.step_models) SayKv(worker, index, true);
}

// One batch of KV events: everything, or one more block. Some are lost on the way.
void ClusterSim::SayKv(Worker& worker, WorkerIndex index, bool snapshot) {
  KvCacheEvent event{.from = {index, worker.session}, .snapshot = snapshot};
  for (int i = 0; i < (snapshot ? 3 : 1); ++i) {
    event.stored.push_back(HashCombine(worker.session.value(), random_() % 8));
  }
  event.sequence = ++worker.kv_sequence;
  if (!snapshot && !calm_ && Chance(0.1)) return;
  worker.outbox.push_back(std::move(event));
}

void ClusterSim::Report(Worker& worker, WorkerIndex index) {
  if (!worker.alive) return;
  const auto held = static_cast<int32_t>(worker.keys.size());
  WorkerReportEvent event{.from = {index, worker.session}};
  event.report = {.running = held,
                  .free_blocks = 100 - 10 * held,
                  .busy_blocks = 10 * held,
                  .credits = std::max(0, 2 - held)};
  event.report.prefill_factors = SizeFactors(0.5f + 0.25f * static_cast<float>(Pick(4)));
  event.report.decode_rows = held;
  event.report.prefill_tokens_left = 20 * Pick(3);
  worker.outbox.push_back(event);
  if (options_.step_models) SayKv(worker, index, false);
}

bool ClusterSim::TakeCommand(Worker& worker, WorkerIndex index) {
  if (!worker.alive || worker.inbox.empty()) return false;
  const Action action = std::move(worker.inbox.front());
  worker.inbox.pop_front();
  const WorkerOrigin from{index, worker.session};
  const auto accept = [&](const RequestKey& key,
                          std::shared_ptr<const GenerationSpec> spec) -> Key& {
    uint32_t& highest = worker.highest_attempt[key.request];
    if (key.attempt <= highest) Violate("an attempt number was used twice on one worker");
    highest = std::max(highest, key.attempt);
    Key& held = worker.keys[key];
    held.spec = std::move(spec);
    for (int32_t sample = 0; sample < held.spec->num_samples; ++sample) {
      held.next[sample] = static_cast<int32_t>(held.spec->tokens.size()) - held.spec->prompt_length;
      held.ended[sample] = false;
    }
    return held;
  };
  if (const auto* reserve = std::get_if<SendReserve>(&action)) {
    if (static_cast<int32_t>(worker.keys.size()) >= options_.room) {
      worker.outbox.push_back(RefusedEvent{from, reserve->key, RefusalReason::kNoRoom, "full"});
      return true;
    }
    accept(reserve->key, reserve->spec);
    worker.outbox.push_back(ReservedEvent{from, reserve->key, "ticket", 0});
  } else if (const auto* prefill = std::get_if<SendPrefill>(&action)) {
    if (!calm_ && Chance(0.05)) {
      worker.outbox.push_back(RefusedEvent{from, prefill->key, RefusalReason::kNoRoom, "full"});
      return true;
    }
    Key& held = accept(prefill->key, prefill->spec);
    held.is_prefill = true;
    for (size_t i = 0; i < workers_.size(); ++i) {
      if (workers_[i].alive && workers_[i].keys.contains(prefill->key) && &workers_[i] != &worker) {
        held.destination = WorkerIndex(static_cast<int32_t>(i));
        held.destination_session = workers_[i].session;
      }
    }
  } else if (const auto* generate = std::get_if<SendGenerate>(&action)) {
    if (worker.role == Role::kDecode && static_cast<int32_t>(worker.keys.size()) >= options_.room) {
      worker.outbox.push_back(RefusedEvent{from, generate->key, RefusalReason::kNoRoom, kPrompts});
      return true;
    }
    accept(generate->key, generate->spec).runs = true;
  } else if (std::holds_alternative<SendKvResync>(action)) {
    SayKv(worker, index, true);
  } else if (const auto* abort = std::get_if<SendAbort>(&action)) {
    OnAbort(worker, index, *abort);
  }
  return true;
}

void ClusterSim::OnAbort(Worker& worker, WorkerIndex index, const SendAbort& abort) {
  const auto found = worker.keys.find(abort.key);
  if (found == worker.keys.end()) return;
  const WorkerOrigin from{index, worker.session};
  if (abort.sample < 0) {
    worker.outbox.push_back(FailedEvent{from, abort.key, FailureReason::kAborted, ""});
    worker.keys.erase(found);
    return;
  }
  Key& held = found->second;
  if (held.is_prefill || std::exchange(held.ended[abort.sample], true)) return;
  FinishedEvent finished{.from = from, .key = abort.key};
  finished.finish = {.sample = abort.sample, .reason = FinishReason::kAborted};
  worker.outbox.push_back(finished);
  const bool all = std::all_of(held.ended.begin(), held.ended.end(),
                               [](const auto& each) { return each.second; });
  if (all) worker.keys.erase(found);
}

bool ClusterSim::DeliverOne(Worker& worker) {
  if (worker.outbox.empty()) return false;
  Event event = std::move(worker.outbox.front());
  worker.outbox.pop_front();
  if (const auto* refused = std::get_if<RefusedEvent>(&event)) {
    if (worker.role == Role::kDecode && refused->reason == RefusalReason::kNoRoom) {
      (refused->message == kPrompts ? worker.refused_prompt : worker.refused) = true;
    }
  } else if (std::holds_alternative<WorkerReportEvent>(event) ||
             std::holds_alternative<WorkerUpEvent>(event)) {
    worker.refused = worker.refused_prompt = false;
  }
  Feed(std::move(event));
  return true;
}

bool ClusterSim::Work(Worker& worker, WorkerIndex index) {
  if (!worker.alive || worker.keys.empty()) return false;
  auto it = worker.keys.begin();
  std::advance(it, Pick(static_cast<int32_t>(worker.keys.size())));
  const RequestKey key = it->first;
  Key& held = it->second;
  const WorkerOrigin from{index, worker.session};
  if (held.is_prefill) {
    TokensEvent tokens{.from = from, .key = key};
    for (auto& [sample, next] : held.next) {
      tokens.tokens.push_back({sample, next, TokenAt(key.request, sample, next)});
    }
    worker.outbox.push_back(tokens);
    worker.outbox.push_back(PrefillDoneEvent{from, key, 0, 1, 2});
    transfers_.push_back({key, index, held.destination, worker.session, held.destination_session});
    worker.keys.erase(it);
    return true;
  }
  if (!held.runs) return false;
  DrawToken(worker, from, key, held);
  return true;
}

// One decode step of one key: the next token of each sample, or its end.
void ClusterSim::DrawToken(Worker& worker, WorkerOrigin from, const RequestKey& key, Key& held) {
  const Client& client = clients_.at(key.request);
  TokensEvent tokens{.from = from, .key = key};
  std::vector<FinishedEvent> ends;
  for (auto& [sample, next] : held.next) {
    if (held.ended[sample]) continue;
    const int32_t length = client.length[static_cast<size_t>(sample)];
    if (next < length) {
      tokens.tokens.push_back({sample, next, TokenAt(key.request, sample, next)});
      ++next;
    }
    if (next < length) continue;
    held.ended[sample] = true;
    FinishedEvent finished{.from = from, .key = key};
    finished.finish = {.sample = sample, .reason = FinishReason::kStop, .output_tokens = length};
    ends.push_back(finished);
  }
  if (!tokens.tokens.empty()) worker.outbox.push_back(tokens);
  for (const FinishedEvent& end : ends) worker.outbox.push_back(end);
  const bool all = std::all_of(held.ended.begin(), held.ended.end(),
                               [](const auto& each) { return each.second; });
  if (all) worker.keys.erase(key);
}

bool ClusterSim::MoveTransfer(bool may_fail) {
  if (transfers_.empty()) return false;
  const auto at = static_cast<size_t>(Pick(static_cast<int32_t>(transfers_.size())));
  const Transfer transfer = transfers_[at];
  transfers_.erase(transfers_.begin() + static_cast<std::ptrdiff_t>(at));
  const auto live = [this](WorkerIndex index, SessionId session) -> Worker* {
    if (index == kNoWorker) return nullptr;
    Worker& worker = workers_[static_cast<size_t>(index.value())];
    return worker.alive && worker.session == session ? &worker : nullptr;
  };
  Worker* from = live(transfer.from, transfer.from_session);
  Worker* to = live(transfer.to, transfer.to_session);
  const WorkerOrigin sender{transfer.from, transfer.from_session};
  const WorkerOrigin receiver{transfer.to, transfer.to_session};
  const bool waits = to != nullptr && to->keys.contains(transfer.key);
  if (!waits) {
    if (from != nullptr) {
      from->outbox.push_back(FailedEvent{sender, transfer.key, FailureReason::kPeerLost, ""});
    }
    return true;
  }
  if (from == nullptr || (may_fail && Chance(options_.transfer_loss))) {
    const FailureReason reason =
        from == nullptr ? FailureReason::kPeerLost
                        : (Chance(0.5) ? FailureReason::kChecksum : FailureReason::kLeaseExpired);
    to->outbox.push_back(FailedEvent{receiver, transfer.key, reason, ""});
    to->keys.erase(transfer.key);
    return true;
  }
  Key& held = to->keys.at(transfer.key);
  held.runs = true;
  for (auto& [sample, next] : held.next) ++next;  // prefill has said the first ones
  to->outbox.push_back(SealedEvent{receiver, transfer.key, 1000, 1, 0.5, "loopback", 0});
  to->outbox.push_back(JoinedEvent{receiver, transfer.key});
  return true;
}

}  // namespace baton::router
