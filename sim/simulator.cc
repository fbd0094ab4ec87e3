#include "sim/simulator.h"

#include <algorithm>
#include <utility>

#include "absl/strings/str_cat.h"
#include "common/check.h"
#include "common/strings.h"

namespace baton::sim {

using router::Role;
using router::WorkerIndex;

namespace {

router::CoreOptions CoreOptionsOf(const SimOptions& options) {
  router::CoreOptions core = options.core;
  core.cluster.num_workers = static_cast<int32_t>(options.workers.size());
  return core;
}

// The router reads a prompt's length and hashes only: equal prompts are enough.
std::shared_ptr<const GenerationSpec> SpecOf(const SimRequest& request) {
  auto spec = std::make_shared<GenerationSpec>();
  spec->tokens.assign(static_cast<size_t>(request.prompt), 1);
  spec->prompt_length = request.prompt;
  spec->stopping = {.max_tokens = request.output, .ignore_eos = true};
  return spec;
}

}  // namespace

double SimResult::GoodShare() const {
  const auto good = std::count_if(outcomes.begin(), outcomes.end(), [](const SimOutcome& each) {
    return each.result == router::SloResult::kGood;
  });
  return static_cast<double>(good) / static_cast<double>(std::max<size_t>(1, outcomes.size()));
}

Simulator::Simulator(SimOptions options)
    : options_(std::move(options)), core_(CoreOptionsOf(options_)) {
  for (const SimWorkerOptions& worker : options_.workers) workers_.emplace_back(worker);
  result_.busy_ms.assign(workers_.size(), 0);
  result_.busy_bins_ms.resize(workers_.size());
}

SimResult Simulator::Run(std::span<const SimRequest> requests) {
  requests_ = requests;
  result_.outcomes.resize(requests.size());
  open_ = requests.size();
  for (int32_t i = 0; i < static_cast<int32_t>(workers_.size()); ++i) {
    const SimWorkerOptions& worker = workers_[static_cast<size_t>(i)].options();
    router::WorkerUpEvent up{.from = From(i)};
    // No KV blocks are simulated: there is always room, and no prompt has a whole block to hash.
    up.info = {.id = absl::StrCat(View(router::RoleName(worker.role)), "-", i),
               .boot = BootId(static_cast<uint64_t>(i) + 1),
               .role = worker.role,
               .protocol_version = 1,
               .model_fingerprint = 1,
               .max_model_len = 1 << 30,
               .block_size = 1 << 16,
               .total_blocks = 1 << 20,
               .max_batch_sequences = worker.batch_sequences,
               .max_batch_tokens = worker.batch_tokens,
               .prefill_credits = worker.credits,
               .step_model = worker.model,
               .paced_prefill = true};
    Feed(std::move(up));
  }
  Happen(Heartbeat{});
  for (const SimSlowness& slow : options_.slow) {
    At(slow.from_ms, Slowdown{slow.worker, slow.by});
    At(slow.until_ms, Slowdown{slow.worker, 1});
  }
  if (!requests.empty()) At(requests[0].arrival_ms, Arrival{0});
  while (open_ > 0) {
    BATON_CHECK(!pending_.empty()) << open_ << " requests wait for nothing";
    // The heap gives out constants; what is moved out of it is popped at once.
    Pending next = std::move(const_cast<Pending&>(pending_.top()));
    pending_.pop();
    now_ms_ = next.at_ms;
    std::visit([this](auto&& what) { Happen(std::forward<decltype(what)>(what)); },
               std::move(next.what));
  }
  result_.end_ms = now_ms_;
  return std::move(result_);
}

void Simulator::At(double at_ms, What what) {
  pending_.push({std::max(at_ms, now_ms_), next_number_++, std::move(what)});
}

// ------------------------------------------------------------------ the router's side

void Simulator::Feed(router::Event event) {
  Take(core_.Handle(Now(), std::move(event)));
  WakeInTime();
}

// One wake counts at a time, the earliest; those that were overtaken do nothing.
void Simulator::WakeInTime() {
  const absl::Time next = core_.NextTick();
  if (next == absl::InfiniteFuture()) return;
  // A moment later, so that rounding does not wake it before its time.
  const double at_ms =
      std::max(now_ms_, absl::ToDoubleMilliseconds(next - absl::UnixEpoch())) + 1e-3;
  if (wake_ms_ >= 0 && wake_ms_ <= at_ms) return;
  wake_ms_ = at_ms;
  At(at_ms, Wake{at_ms});
}

void Simulator::Happen(Wake wake) {
  if (wake.at_ms != wake_ms_) return;
  wake_ms_ = -1;
  Take(core_.Tick(Now()));
  WakeInTime();
}

void Simulator::Happen(Arrival arrival) {
  const SimRequest& request = requests_[arrival.request];
  if (arrival.request + 1 < requests_.size()) {
    At(requests_[arrival.request + 1].arrival_ms, Arrival{arrival.request + 1});
  }
  if (options_.gate && !options_.gate(*this, request)) {
    result_.outcomes[arrival.request].result = router::SloResult::kRejected;
    --open_;
    return;
  }
  Feed(router::SubmitEvent{.request = RequestId(arrival.request),
                           .spec = SpecOf(request),
                           .arrival = Now(),
                           .timeout = absl::Hours(1),
                           .slo = request.slo,
                           .slo_class = request.slo_class,
                           .tenant = request.tenant});
}

void Simulator::Take(std::vector<router::Action> actions) {
  const auto end = [&](RequestId request, const router::SloOutcome& outcome) -> SimOutcome& {
    SimOutcome& out = result_.outcomes[request.value()];
    out.result = outcome.result;
    out.end_ms = now_ms_;
    --open_;
    return out;
  };
  for (router::Action& action : actions) {
    if (const auto* done = std::get_if<router::CompleteRequest>(&action)) {
      SimOutcome& out = end(done->request, done->outcome);
      out.ttft_ms = done->summary.timings.ttft_ms;
      out.tpot_ms = done->summary.timings.tpot_ms;
      out.prediction = done->prediction;
    } else if (const auto* failed = std::get_if<router::FailRequest>(&action)) {
      SimOutcome& out = end(failed->request, failed->outcome);
      out.verdict = failed->verdict;
      out.retry_after = failed->error.retry_after;
    } else if (const auto* note = std::get_if<router::NoteStanding>(&action)) {
      result_.standings.push_back({now_ms_, note->worker.value(), note->standing});
    } else if (std::holds_alternative<router::SendReserve>(action) ||
               std::holds_alternative<router::SendPrefill>(action) ||
               std::holds_alternative<router::SendGenerate>(action) ||
               std::holds_alternative<router::SendAbort>(action)) {
      At(now_ms_ + options_.message_ms, ToWorker{std::move(action)});
    }
  }
}

// ------------------------------------------------------------------ the workers' side

void Simulator::FromWorker(router::Event event) {
  At(now_ms_ + options_.message_ms, std::move(event));
}

void Simulator::Happen(ToWorker to) {
  if (const auto* reserve = std::get_if<router::SendReserve>(&to.action)) {
    const router::WorkerOrigin from{reserve->worker, router::SessionId(1)};
    if (WorkerAt(reserve->worker).Reserve()) {
      FromWorker(router::ReservedEvent{from, reserve->key, "", 0});
    } else {
      FromWorker(router::RefusedEvent{from, reserve->key, router::RefusalReason::kNoRoom, "full"});
    }
  } else if (const auto* prefill = std::get_if<router::SendPrefill>(&to.action)) {
    const router::RequestState* request = core_.Find(prefill->key.request);
    if (request == nullptr || request->attempt != prefill->key.attempt) return;
    WorkerAt(prefill->worker)
        .AddPrompt({.key = prefill->key,
                    .tokens = prefill->spec->prompt_length,
                    .output = prefill->spec->stopping.max_tokens,
                    .tpot_ms = prefill->objective.tpot_ms,
                    .destination = request->decode});
    MayStep(prefill->worker.value());
  } else if (const auto* generate = std::get_if<router::SendGenerate>(&to.action)) {
    const router::WorkerOrigin from{generate->worker, router::SessionId(1)};
    SimWorker& worker = WorkerAt(generate->worker);
    if (!worker.Reserve()) {
      FromWorker(router::RefusedEvent{from, generate->key, router::RefusalReason::kNoRoom, "full"});
      return;
    }
    worker.AddPrompt({.key = generate->key,
                      .tokens = generate->spec->prompt_length,
                      .output = generate->spec->stopping.max_tokens,
                      .tpot_ms = generate->objective.tpot_ms});
    MayStep(generate->worker.value());
  } else if (const auto* abort = std::get_if<router::SendAbort>(&to.action)) {
    SimWorker& worker = WorkerAt(abort->worker);
    worker.Abort(abort->key, worker.options().role != Role::kPrefill);
  }
}

void Simulator::MayStep(int32_t index) {
  SimWorker& worker = workers_[static_cast<size_t>(index)];
  if (worker.stepping() || !worker.HasWork()) return;
  const double ms = worker.BeginStep();
  for (const RequestKey& key : worker.TakeJoined()) {
    FromWorker(router::JoinedEvent{From(index), key});
  }
  CountBusy(index, now_ms_, ms);
  At(now_ms_ + ms, StepEnd{index});
}

void Simulator::CountBusy(int32_t index, double from_ms, double ms) {
  const auto at = static_cast<size_t>(index);
  result_.busy_ms[at] += ms;
  std::vector<double>& bins = result_.busy_bins_ms[at];
  for (double left = ms; left > 1e-9;) {
    const auto bin = static_cast<size_t>(from_ms / options_.bin_ms);
    const double part =
        std::min(left, std::max(1e-6, (static_cast<double>(bin) + 1) * options_.bin_ms - from_ms));
    if (bins.size() <= bin) bins.resize(bin + 1, 0);
    bins[bin] += part;
    from_ms += part;
    left -= part;
  }
}

void Simulator::Happen(StepEnd end) {
  SimWorker& worker = workers_[static_cast<size_t>(end.worker)];
  const SimStep step = worker.EndStep();
  const router::WorkerOrigin from = From(end.worker);
  for (const SimRow& row : step.decoded) Say(worker, from, row);
  for (const SimPrompt& prompt : step.prefilled) {
    const bool here = prompt.destination == router::kNoWorker;
    Say(worker, from, {prompt.key, prompt.tokens, 1, here ? prompt.output : 0});
    if (here) continue;
    FromWorker(router::PrefillDoneEvent{from, prompt.key, 0, 0, 0});
    const double transfer_ms = options_.transfer_ms_per_token * prompt.tokens;
    const double exposed_ms = transfer_ms * options_.transfer_exposed_share;
    At(now_ms_ + exposed_ms,
       KvArrived{prompt.destination.value(),
                 {prompt.key, prompt.tokens + 1, 1, prompt.output, prompt.tpot_ms},
                 transfer_ms,
                 exposed_ms});
  }
  MayStep(end.worker);
}

// A token, and the end if it was the last one. `row.output` 0: another worker says the end.
void Simulator::Say(const SimWorker&, const router::WorkerOrigin& from, const SimRow& row) {
  FromWorker(router::TokensEvent{
      from, row.key, {{.sample = 0, .index = row.emitted - 1, .token = row.emitted}}});
  if (row.emitted != row.output) return;
  router::FinishedEvent finished{.from = from, .key = row.key};
  finished.finish = {.reason = FinishReason::kLength, .output_tokens = row.output};
  FromWorker(std::move(finished));
}

void Simulator::Happen(KvArrived arrived) {
  const router::WorkerOrigin from = From(arrived.worker);
  const RequestKey key = arrived.row.key;
  const router::RequestState* request = core_.Find(key.request);
  if (request == nullptr || request->attempt != key.attempt) return;  // aborted meanwhile
  FromWorker(router::SealedEvent{.from = from,
                                 .key = key,
                                 .transfer_ms = arrived.transfer_ms,
                                 .transfer_exposed_ms = arrived.exposed_ms,
                                 .transport = "sim"});
  SimWorker& worker = workers_[static_cast<size_t>(arrived.worker)];
  worker.AddRow(arrived.row);
  if (arrived.row.output == 1) {  // prefill has said it all
    worker.Abort(key, true);
    router::FinishedEvent finished{.from = from, .key = key};
    finished.finish = {.reason = FinishReason::kLength, .output_tokens = 1};
    FromWorker(std::move(finished));
    return;
  }
  MayStep(arrived.worker);
}

void Simulator::Happen(Slowdown slowdown) {
  workers_[static_cast<size_t>(slowdown.worker)].SlowDown(slowdown.by);
}

void Simulator::Happen(Heartbeat) {
  for (int32_t i = 0; i < static_cast<int32_t>(workers_.size()); ++i) {
    FromWorker(router::WorkerReportEvent{From(i), workers_[static_cast<size_t>(i)].Report()});
  }
  At(now_ms_ + options_.report_ms, Heartbeat{});
}

}  // namespace baton::sim
