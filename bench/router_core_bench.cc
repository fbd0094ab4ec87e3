// What one decision of the router core costs with 10,000 workers and 100,000 queued requests.
#include <benchmark/benchmark.h>
#include <time.h>

#include <algorithm>
#include <deque>
#include <memory>
#include <vector>

#include "absl/strings/str_cat.h"
#include "common/check.h"
#include "common/hash.h"
#include "router/core/router_core.h"

namespace baton::router {
namespace {

constexpr int32_t kWorkers = 10'000;
constexpr int32_t kQueued = 100'000;
constexpr int32_t kPrompt = 512;      // tokens, a quarter of them shared with other requests
constexpr int32_t kDecodeBatch = 32;  // requests on each decode worker
constexpr uint64_t kTenants = 1000;

// Half prefill and half decode workers, all with step models and full of work, behind a queue that
// is kept at kQueued.
class BusyCluster {
 public:
  BusyCluster() : core_(Options()) {
    for (int32_t i = 0; i < kWorkers; ++i) Up(i);
    while (core_.num_waiting() < kQueued) Submit();
  }

  RouterCore& core() { return core_; }

  Event NextSubmit() {
    auto spec = std::make_shared<GenerationSpec>();
    const uint64_t random = HashCombine(seed_, ++requests_);
    spec->tokens.assign(kPrompt, static_cast<TokenId>(random % 50'000));
    std::fill_n(spec->tokens.begin(), kPrompt / 4, static_cast<TokenId>(random % kGroups));
    spec->prompt_length = kPrompt;
    spec->stopping = {.max_tokens = 256, .ignore_eos = true};
    return SubmitEvent{.request = RequestId(requests_),
                       .spec = std::move(spec),
                       .arrival = now_,
                       .timeout = absl::Hours(1),
                       .slo = {.ttft_ms = 1e6 + static_cast<double>(random % 1000), .tpot_ms = 50},
                       .slo_class = static_cast<int32_t>(random % 3),
                       .tenant = 1 + random % kTenants};
  }
  void Submit() { Feed(NextSubmit()); }

  // The request that has been in prefill longest is done with it: its worker takes the next one.
  Event NextPrefillDone() {
    BATON_CHECK(!prefilling_.empty()) << "no prefill worker has work";
    const SendPrefill done = prefilling_.front();
    prefilling_.pop_front();
    decoding_.push_back({done.key, core_.Find(done.key.request)->decode});
    return PrefillDoneEvent{From(done.worker), done.key, 0, 0, 20};
  }
  Event NextReport() {
    next_report_ = (next_report_ + 1) % kWorkers;
    const WorkerIndex index(next_report_);
    WorkerReportEvent event{.from = From(index)};
    event.report.free_blocks = 20'000;
    event.report.credits = core_.cluster().worker(index).credits;
    event.report.decode_rows = core_.cluster().worker(index).decoding_rows;
    return event;
  }

  // Carries out what a timed call gave.
  void Take(std::vector<Action> actions) {
    for (Action& action : actions) {
      if (auto* reserve = std::get_if<SendReserve>(&action)) {
        reserved_.push_back({reserve->key, reserve->worker});
      } else if (auto* prefill = std::get_if<SendPrefill>(&action)) {
        prefilling_.push_back(std::move(*prefill));
      } else if (auto* generate = std::get_if<SendGenerate>(&action)) {
        in_place_.push_back({generate->key, generate->worker});
      }
    }
    while (!reserved_.empty()) {
      const Held held = reserved_.front();
      reserved_.pop_front();
      Feed(ReservedEvent{From(held.worker), held.key, "ticket", 0});
    }
  }
  void Feed(Event event) { Take(core_.Handle(now_, std::move(event))); }

  // One that is done with prefill begins to decode, what decoded longest ends, the queue is
  // refilled.
  void Settle() {
    now_ += absl::Microseconds(100);
    if (!decoding_.empty()) {
      const Held held = decoding_.front();
      decoding_.pop_front();
      Feed(TokensEvent{FirstFrom(held), held.key, {{0, 0, 1}}});
      Feed(SealedEvent{From(held.worker), held.key, 1 << 20, 5, 1, "rdma", 0});
      Feed(JoinedEvent{From(held.worker), held.key});
      running_.push_back(held);
    }
    if (!in_place_.empty()) {
      Feed(TokensEvent{From(in_place_.front().worker), in_place_.front().key, {{0, 0, 1}}});
      running_.push_back(in_place_.front());
      in_place_.pop_front();
    }
    while (running_.size() > size_t{kWorkers / 2} * kDecodeBatch) {
      Feed(CancelEvent{running_.front().key.request});
      running_.pop_front();
    }
    while (core_.num_waiting() < kQueued) Submit();
  }

 private:
  static constexpr uint64_t kGroups = 2000;  // of prompts that share their first quarter
  struct Held {
    RequestKey key;
    WorkerIndex worker;
  };

  static CoreOptions Options() {
    CoreOptions options;
    options.cluster.num_workers = kWorkers;
    options.cluster.missed_heartbeats = 1 << 20;
    options.queue = {.max_requests = 2 * kQueued,
                     .max_bytes = int64_t{1} << 40,
                     .max_tenant_bytes = int64_t{1} << 40};
    options.slo_classes = {
        {.name = "a"}, {.name = "b", .weight = 2}, {.name = "c", .shed_order = 1}};
    options.prefix_entries = 1 << 20;
    return options;
  }
  static WorkerOrigin From(WorkerIndex worker) { return {worker, SessionId(1)}; }
  WorkerOrigin FirstFrom(const Held& held) { return From(core_.Find(held.key.request)->prefill); }

  void Up(int32_t i) {
    const bool prefill = i % 2 == 0;
    WorkerUpEvent up{.from = From(WorkerIndex(i))};
    up.info = {.id = absl::StrCat("worker-", i),
               .boot = BootId(static_cast<uint64_t>(i) + 1),
               .role = prefill ? Role::kPrefill : Role::kDecode,
               .protocol_version = 1,
               .model_fingerprint = 7,
               .max_model_len = 1 << 17,
               .block_size = 16,
               .total_blocks = 20'000,
               .max_batch_sequences = 64,
               .max_batch_tokens = 512,
               .prefill_credits = 4,
               .step_model = {.prefill_base_ms = 2,
                              .prefill_token_ms = 0.02 + 1e-6 * i,
                              .decode_base_ms = 5,
                              .decode_row_ms = 0.05,
                              .decode_context_ms = 1e-5,
                              .profiled_prefill_tokens = 8192,
                              .profiled_decode_rows = 64}};
    Feed(up);
    KvCacheEvent kv{.from = From(WorkerIndex(i)), .snapshot = true};
    for (uint64_t group = 0; group < 3; ++group) {
      const std::vector<TokenId> shared(
          kPrompt / 4,
          static_cast<TokenId>(HashCombine(static_cast<uint64_t>(i), group) % kGroups));
      for (const uint64_t hash : HashPrefix(shared, 16, 0)) kv.stored.push_back(hash);
    }
    Feed(kv);
  }

  const uint64_t seed_ = 1;
  uint64_t requests_ = 0;
  int32_t next_report_ = 0;
  absl::Time now_ = absl::UnixEpoch();
  RouterCore core_;
  std::deque<Held> reserved_, decoding_, in_place_, running_;
  std::deque<SendPrefill> prefilling_;
};

BusyCluster& Cluster() {
  static auto* const cluster = new BusyCluster;
  return *cluster;
}

// The core neither waits nor shares its thread: what others do on the machine is left out.
double ThreadCpuUs() {
  timespec time{};
  clock_gettime(CLOCK_THREAD_CPUTIME_ID, &time);
  return static_cast<double>(time.tv_sec) * 1e6 + static_cast<double>(time.tv_nsec) / 1e3;
}

// Times core.Handle on the events that `next` makes; reports the mean, p99 and the worst.
template <typename Next>
void TimeEvents(benchmark::State& state, const Next& next) {
  BusyCluster& cluster = Cluster();
  std::vector<double> times_us;
  absl::Time now = absl::UnixEpoch();
  for (auto _ : state) {
    Event event = next(cluster);
    const double start_us = ThreadCpuUs();
    std::vector<Action> actions = cluster.core().Handle(now, std::move(event));
    times_us.push_back(ThreadCpuUs() - start_us);
    state.SetIterationTime(times_us.back() / 1e6);
    cluster.Take(std::move(actions));
    cluster.Settle();
  }
  std::sort(times_us.begin(), times_us.end());
  BATON_CHECK(cluster.core().num_waiting() >= kQueued) << "the queue ran dry";
  state.counters["p99_us"] = times_us[times_us.size() * 99 / 100];
  state.counters["max_us"] = times_us.back();
  state.counters["queued"] = cluster.core().num_waiting();
}

// A request arrives: hash of its prompt, forecast, admission, a place in the queue.
void BM_Admit(benchmark::State& state) {
  TimeEvents(state, [](BusyCluster& cluster) { return cluster.NextSubmit(); });
}
// A prefill worker is free: the queue's first request is placed.
void BM_Dispatch(benchmark::State& state) {
  TimeEvents(state, [](BusyCluster& cluster) { return cluster.NextPrefillDone(); });
}
// A worker's heartbeat.
void BM_Report(benchmark::State& state) {
  TimeEvents(state, [](BusyCluster& cluster) { return cluster.NextReport(); });
}
void BM_NextTick(benchmark::State& state) {
  for (auto _ : state) benchmark::DoNotOptimize(Cluster().core().NextTick());
}

BENCHMARK(BM_Admit)->UseManualTime()->Unit(benchmark::kMicrosecond)->Iterations(20'000);
BENCHMARK(BM_Dispatch)->UseManualTime()->Unit(benchmark::kMicrosecond)->Iterations(20'000);
BENCHMARK(BM_Report)->UseManualTime()->Unit(benchmark::kMicrosecond)->Iterations(20'000);
BENCHMARK(BM_NextTick)->Unit(benchmark::kNanosecond);

}  // namespace
}  // namespace baton::router
