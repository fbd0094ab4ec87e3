#include "router/link/router_loop.h"

#include <algorithm>
#include <random>
#include <utility>

#include "absl/strings/str_cat.h"
#include "absl/strings/str_format.h"
#include "common/check.h"
#include "common/hash.h"
#include "proto/baton/v1/worker.pb.h"
#include "router/link/epoch.h"

namespace baton::router {
namespace {

// Far above what can be queued: reads are bounded by session, submissions by bytes.
constexpr size_t kMailboxItems = 4 << 20;
constexpr absl::Duration kPublishInterval = absl::Milliseconds(100);
// How long closed sessions may take to say that they ended.
constexpr absl::Duration kStopWait = absl::Seconds(5);
constexpr uint32_t kProtocolVersion = 1;
constexpr size_t kFlushEvents = 64;

CoreOptions CoreOptionsOf(const RouterOptions& options) {
  CoreOptions core;
  core.cluster = {.num_workers = static_cast<int32_t>(options.workers.size()),
                  .heartbeat = options.heartbeat,
                  .missed_heartbeats = options.missed_heartbeats,
                  .max_step_age = options.max_step_age,
                  .protocol_version = kProtocolVersion};
  core.queue = {.max_requests = options.max_queued_requests, .max_bytes = options.max_queued_bytes};
  core.reserve_timeout = options.reserve_timeout;
  core.handoff_lease = options.handoff_lease;
  core.no_worker_wait = options.no_worker_wait;
  core.max_attempts = options.max_attempts;
  core.slo_classes = SloClassesOf(options);
  core.admission = options.admission;
  core.conditional_disaggregation = options.conditional_disaggregation;
  core.queue.max_tenant_bytes = options.max_tenant_bytes;
  return core;
}

// Enough for the detokenizer to see how the prompt ends; a long prompt costs the loop nothing.
std::vector<TokenId> PromptTail(const std::vector<TokenId>& prompt) {
  constexpr size_t kTailTokens = 64;
  return {prompt.end() - static_cast<std::ptrdiff_t>(std::min(kTailTokens, prompt.size())),
          prompt.end()};
}

int64_t BytesOf(const RoutedRequest& request) {
  return static_cast<int64_t>(request.spec.tokens.size() * sizeof(TokenId) + sizeof(request));
}

}  // namespace

RouterLoop::RouterLoop(const RouterOptions& options, const Parts& parts)
    : options_(options),
      tokenizer_(parts.tokenizer),
      clock_(parts.clock),
      log_(parts.log),
      eos_tokens_(options.eos_tokens),
      epoch_(EpochOf(clock_.Now(), std::random_device()())),
      mailbox_(std::make_shared<ItemQueue>(kMailboxItems)),
      view_(ServedModel{.name = options.model_name, .root = options.model_root}),
      core_(CoreOptionsOf(options)),
      slo_classes_(SloClassesOf(options)),
      metrics_(parts.metrics, slo_classes_),
      scheduling_(parts.metrics),
      traffic_(slo_classes_),
      started_(clock_.Now()) {
  if (eos_tokens_.empty() && tokenizer_.eos_token() >= 0) eos_tokens_ = {tokenizer_.eos_token()};
  metrics_.SetModel(options.model_name);
  view_.SetReadiness(ReadinessOf(core_));
  for (size_t i = 0; i < options.workers.size(); ++i) {
    links_.push_back(std::make_unique<WorkerLink>(
        LinkOptions{options.workers[i], options.reconnect_min, options.reconnect_max,
                    parts.credentials},
        WorkerIndex(static_cast<int32_t>(i)), HashCombine(epoch_, i),
        [mailbox = mailbox_](const WorkerOrigin& from, SessionNews news) {
          return mailbox->Push(LinkNews{from, std::move(news)});
        }));
  }
  const absl::Time now = clock_.Now();
  next_heartbeat_ = now + options.heartbeat;
  next_stats_ = now + options.stats_interval;
  next_publish_ = now;
  thread_ = std::thread([this] { Loop(); });
}

RouterLoop::~RouterLoop() {
  BATON_CHECK(mailbox_->Push(StopRequest{})) << "the router's mailbox is full";
  thread_.join();
}

// ------------------------------------------------------------------ any thread

RequestId RouterLoop::Submit(RoutedRequest request, std::shared_ptr<ResponseSink> sink) {
  // The high half tells this router's life from others, the low half counts.
  const RequestId id((epoch_ << 32) | ++next_request_);
  const std::string external_id = request.external_id;
  {
    absl::MutexLock lock(&external_mutex_);
    by_external_id_.emplace(external_id, id);
  }
  Submission item{
      .id = id, .request = std::move(request), .sink = sink, .arrival = clock_.Now(), .bytes = 0};
  item.bytes = BytesOf(item.request);
  if (submitted_bytes_.fetch_add(item.bytes) + item.bytes > options_.max_queued_bytes) {
    item.overloaded = true;
    item.request.spec.tokens = {};
  }
  if (!mailbox_->Push(std::move(item))) {
    Forget(id, external_id);
    sink->OnError({.code = RequestErrorCode::kDraining, .message = "the router has stopped"});
    if (const auto group = sink->group()) group->Flush();
  }
  return id;
}

void RouterLoop::Cancel(RequestId id) {
  // Refused only once the loop has stopped, and then every request has ended.
  [[maybe_unused]] const bool posted = mailbox_->Push(Cancellation{id});
}

bool RouterLoop::CancelExternal(const std::string& external_id) {
  std::vector<RequestId> ids;
  {
    absl::MutexLock lock(&external_mutex_);
    const auto [begin, end] = by_external_id_.equal_range(external_id);
    for (auto it = begin; it != end; ++it) ids.push_back(it->second);
  }
  for (const RequestId id : ids) Cancel(id);
  return !ids.empty();
}

void RouterLoop::Drain() { [[maybe_unused]] const bool posted = mailbox_->Push(DrainRequest{}); }

bool RouterLoop::WaitUntilIdle(absl::Duration timeout) {
  absl::MutexLock lock(&external_mutex_);
  const auto idle = [this]() ABSL_EXCLUSIVE_LOCKS_REQUIRED(external_mutex_) {
    return by_external_id_.empty();
  };
  return external_mutex_.AwaitWithTimeout(absl::Condition(&idle), timeout);
}

void RouterLoop::Forget(RequestId id, const std::string& external_id) {
  absl::MutexLock lock(&external_mutex_);
  const auto [begin, end] = by_external_id_.equal_range(external_id);
  for (auto it = begin; it != end; ++it) {
    if (it->second == id) {
      by_external_id_.erase(it);
      return;
    }
  }
}

// ------------------------------------------------------------------ the loop thread

void RouterLoop::Owe(const std::shared_ptr<SinkGroup>& group) {
  if (group == nullptr || std::find(owed_.begin(), owed_.end(), group) != owed_.end()) return;
  owed_.push_back(group);
}

void RouterLoop::FlushOwed() {
  for (const auto& group : owed_) group->Flush();
  owed_.clear();
}

void RouterLoop::Loop() {
  for (absl::Time now = clock_.Now(); !LoopMayEnd(now); now = clock_.Now()) {
    LoopTimers(now);
    FlushOwed();
    LoopPublish(now);
    for (Item& item : mailbox_->WaitAndTakeAll(LoopPause(now))) {
      std::visit([&](auto& it) { OnItem(clock_.Now(), std::move(it)); }, item);
      view_stale_ = true;
    }
    FlushOwed();  // before anything else can take time
  }
  mailbox_->Close();
  for (Item& item : mailbox_->TakeAll()) {
    if (auto* submission = std::get_if<Submission>(&item)) {
      OnItem(clock_.Now(), std::move(*submission));
    }
  }
  FlushOwed();
}

bool RouterLoop::LoopMayEnd(absl::Time now) const {
  if (!stopping_) return false;
  const bool all_closed =
      std::none_of(links_.begin(), links_.end(), [](const auto& link) { return link->open(); });
  return all_closed || now >= stop_by_;
}

absl::Duration RouterLoop::LoopPause(absl::Time now) const {
  absl::Time next = std::min({core_.NextTick(), next_heartbeat_, next_stats_, stop_by_});
  if (view_stale_) next = std::min(next, next_publish_);
  if (!stopping_) next = std::min(next, next_link_tick_);
  return std::max(next - now, absl::ZeroDuration());
}

void RouterLoop::LoopTimers(absl::Time now) {
  if (now >= core_.NextTick()) CarryOut(now, core_.Tick(now));
  if (now >= next_heartbeat_) {
    next_heartbeat_ = now + options_.heartbeat;
    ++heartbeat_sequence_;
    for (const auto& link : links_) {
      auto message = std::make_unique<v1::RouterMessage>();
      message->mutable_heartbeat()->set_sequence(heartbeat_sequence_);
      link->Send(std::move(message));
    }
  }
  if (now >= next_stats_) {
    next_stats_ = now + options_.stats_interval;
    LoopStatsLine();
  }
  if (stopping_ || now < next_link_tick_) return;
  next_link_tick_ = absl::InfiniteFuture();
  for (const auto& link : links_) {
    if (now >= link->NextTick()) link->Tick(now, Hello());
    next_link_tick_ = std::min(next_link_tick_, link->NextTick());
  }
}

// Counts are always fresh; the list of workers is copied at most ten times a second.
void RouterLoop::LoopPublish(absl::Time now) {
  view_.SetCounts(core_.num_running(), core_.num_waiting());
  metrics_.SetLoad(core_.num_running(), core_.num_waiting());
  if (!view_stale_ || now < next_publish_) return;
  next_publish_ = now + kPublishInterval;
  view_stale_ = false;
  view_.SetReadiness(ReadinessOf(core_));
  view_.SetWorkers(WorkersOf(core_));
  view_.SetReport(LoopReport(now));
  metrics_.SetWorkers(core_.cluster());
  scheduling_.SetCore(core_);
}

ClusterReport RouterLoop::LoopReport(absl::Time now) const {
  ClusterReport report;
  report.time_s = absl::ToDoubleSeconds(now - started_);
  ReportCore(core_, &report);
  traffic_.Report(&report);
  const RouterMetrics::Totals totals = metrics_.totals();
  report.prompt_tokens = static_cast<int64_t>(totals.prompt_tokens);
  report.generation_tokens = static_cast<int64_t>(totals.generation_tokens);
  return report;
}

void RouterLoop::LoopStatsLine() {
  const RouterMetrics::Totals totals = metrics_.totals();
  const double seconds = absl::ToDoubleSeconds(options_.stats_interval);
  const double generated = totals.generation_tokens - stats_base_.generation_tokens;
  const double ended = totals.ended - stats_base_.ended;
  if (!open_.empty() || generated > 0 || ended > 0) {
    const double prompt = totals.prompt_tokens - stats_base_.prompt_tokens;
    log_.Info("stats", {{"running", core_.num_running()},
                        {"waiting", core_.num_waiting()},
                        {"prompt_tokens_per_s", absl::StrFormat("%.1f", prompt / seconds)},
                        {"generated_tokens_per_s", absl::StrFormat("%.1f", generated / seconds)},
                        {"requests_ended", ended},
                        {"good", totals.good - stats_base_.good}});
  }
  stats_base_ = totals;
}

HelloFields RouterLoop::Hello() const {
  return {.router_id = options_.router_id,
          .router_epoch = epoch_,
          .protocol_version = kProtocolVersion,
          .lease = options_.worker_lease,
          .model_fingerprint = core_.cluster().model_fingerprint()};
}

void RouterLoop::OnItem(absl::Time now, Submission item) {
  submitted_bytes_.fetch_sub(item.bytes);
  if (item.overloaded) {
    const int32_t slo_class = SloClassOf(item.request.slo);
    metrics_.OnEnd({.result = SloResult::kRejected,
                    .target = slo_classes_[static_cast<size_t>(slo_class)].target,
                    .slo_class = slo_class});
    Forget(item.id, item.request.external_id);
    item.sink->OnError({.code = RequestErrorCode::kOverloaded,
                        .message = "too many prompt bytes are waiting",
                        .retry_after = absl::Seconds(1)});
    Owe(item.sink->group());
    return;
  }
  RoutedRequest& request = item.request;
  RelayRequest relay{.tokenizer = &tokenizer_,
                     .prompt = PromptTail(request.spec.tokens),
                     .output = std::move(request.output),
                     .stopping = request.spec.stopping,
                     .eos_tokens = eos_tokens_,
                     .with_pieces = request.spec.sampling.num_logprobs >= 0};
  const int32_t num_samples = std::max(0, request.spec.num_samples);
  OpenRequest& open = open_[item.id];
  open.relay = std::make_unique<RequestRelay>(std::move(relay), request.spec.first_sample,
                                              num_samples, std::move(item.sink));
  open.external_id = request.external_id;
  open.prompt_tokens = request.spec.prompt_length;
  open.arrival = item.arrival;
  open.last_token.assign(static_cast<size_t>(num_samples), absl::InfinitePast());
  SubmitEvent event{.request = item.id,
                    .arrival = item.arrival,
                    .timeout = request.timeout > absl::ZeroDuration() ? request.timeout
                                                                      : options_.default_timeout,
                    .slo_class = SloClassOf(request.slo),
                    .priority = request.priority,
                    .tenant = request.tenant};
  const SloTarget& target = slo_classes_[static_cast<size_t>(event.slo_class)].target;
  event.slo = {request.slo.ttft_ms.value_or(target.ttft_ms),
               request.slo.tpot_ms.value_or(target.tpot_ms)};
  event.slo_stated = event.slo_class != 0 || options_.slo_default_stated ||
                     request.slo.ttft_ms.has_value() || request.slo.tpot_ms.has_value();
  event.spec = std::make_shared<const GenerationSpec>(std::move(request.spec));
  Feed(now, std::move(event));
}

// Fronts have refused names that are not configured.
int32_t RouterLoop::SloClassOf(const SloParams& slo) const {
  for (size_t i = 0; i < slo_classes_.size(); ++i) {
    if (slo_classes_[i].name == slo.slo_class) return static_cast<int32_t>(i);
  }
  return 0;
}

void RouterLoop::OnItem(absl::Time now, const Cancellation& item) {
  Feed(now, CancelEvent{item.id});
}

void RouterLoop::OnItem(absl::Time now, const DrainRequest&) {
  if (!core_.draining()) log_.Info("draining", {{"open_requests", open_.size()}});
  Feed(now, DrainEvent{});
  view_.SetReadiness(ReadinessOf(core_));
}

void RouterLoop::OnItem(absl::Time now, const StopRequest&) {
  stopping_ = true;
  stop_by_ = now + kStopWait;
  Feed(now, DrainEvent{});
  std::vector<RequestId> ids;
  for (const auto& [id, open] : open_) ids.push_back(id);
  for (const RequestId id : ids) Feed(now, CancelEvent{id});
  for (const auto& link : links_) link->Close();
}

void RouterLoop::OnItem(absl::Time now, LinkNews item) {
  WorkerLink& link = *links_[static_cast<size_t>(item.from.worker.value())];
  if (auto* ended = std::get_if<SessionEnded>(&item.news)) {
    const bool was_up = core_.cluster().IsCurrent(item.from);
    if (!link.OnEnded(now, item.from.session)) return;
    next_link_tick_ = std::min(next_link_tick_, link.NextTick());
    const std::string reason(ended->status.message().data(), ended->status.message().size());
    if (was_up && !stopping_) {
      log_.Warning("worker lost", {{"worker", core_.cluster().worker(item.from.worker).info.id},
                                   {"address", link.address()},
                                   {"reason", reason}});
    } else if (absl::IsFailedPrecondition(ended->status) ||
               absl::IsInvalidArgument(ended->status)) {
      log_.Warning("worker refused", {{"address", link.address()}, {"reason", reason}});
    }
    Feed(now, WorkerDownEvent{item.from, reason});
    return;
  }
  std::vector<Event>& events = std::get<SessionMessages>(item.news).events;
  // Welcome comes alone.
  const bool is_up = std::holds_alternative<WorkerUpEvent>(events.front());
  for (Event& event : events) Feed(now, std::move(event));
  // A long batch is on its way to the clients while the next one is handled.
  if (events.size() >= kFlushEvents) FlushOwed();
  link.Consumed(item.from.session, events.size());
  if (!is_up || !core_.cluster().IsCurrent(item.from)) return;
  link.OnAccepted();
  const WorkerInfo& info = core_.cluster().worker(item.from.worker).info;
  log_.Info("worker up", {{"worker", info.id},
                          {"role", RoleName(info.role)},
                          {"address", link.address()},
                          {"kv_blocks", info.total_blocks}});
  if (view_.model().max_model_len == 0) {
    ServedModel model{.name = options_.model_name.empty() ? info.model_name : options_.model_name,
                      .root = options_.model_root,
                      .max_model_len = info.max_model_len,
                      .vocab_size = info.vocab_size,
                      .created_unix_s = absl::ToUnixSeconds(absl::Now())};
    metrics_.SetModel(model.name);
    view_.SetModel(std::move(model));
  }
}

}  // namespace baton::router
