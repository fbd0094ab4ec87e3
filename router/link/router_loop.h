// The router's one thread: it owns the core, the relays and the links, and carries out what the
// core decides. Everyone else posts to its mailbox.
#pragma once

#include <atomic>
#include <cstdint>
#include <memory>
#include <optional>
#include <string>
#include <thread>
#include <unordered_map>
#include <variant>
#include <vector>

#include "absl/synchronization/mutex.h"
#include "common/mailbox.h"
#include "router/core/router_core.h"
#include "router/link/published_view.h"
#include "router/link/router_metrics.h"
#include "router/link/scheduling_metrics.h"
#include "router/link/start_router.h"
#include "router/link/traffic_log.h"
#include "router/link/worker_link.h"
#include "router/relay/request_relay.h"

namespace baton::router {

// Thread-safe, as CompletionService says; methods named Loop… and On… run on the loop thread.
class RouterLoop final : public Router {
 public:
  // What it works with; the references must outlive it.
  struct Parts {
    const Tokenizer& tokenizer;
    const Clock& clock;
    Logger& log;
    MetricRegistry& metrics;
    std::shared_ptr<grpc::ChannelCredentials> credentials;  // shared with gRPC's channels
  };
  RouterLoop(const RouterOptions& options, const Parts& parts);
  ~RouterLoop() override;

  RequestId Submit(RoutedRequest request, std::shared_ptr<ResponseSink> sink) override;
  void Cancel(RequestId id) override;
  bool CancelExternal(const std::string& external_id) override;
  void Drain() override;
  ServedModel model() const override { return view_.model(); }
  Readiness readiness() const override { return view_.readiness(); }
  LoadView load() const override { return view_.load(); }
  ClusterReport report() const override { return view_.report(); }
  bool WaitUntilIdle(absl::Duration timeout) override;

 private:
  struct Submission {
    RequestId id;
    RoutedRequest request;
    std::shared_ptr<ResponseSink> sink;  // the other owner is the front's call object
    absl::Time arrival;
    int64_t bytes = 0;
    bool overloaded = false;  // the prompt was dropped at the door
  };
  struct Cancellation {
    RequestId id;
  };
  struct DrainRequest {};
  struct StopRequest {};
  struct LinkNews {
    WorkerOrigin from;
    SessionNews news;
  };
  using Item = std::variant<Submission, Cancellation, DrainRequest, StopRequest, LinkNews>;
  using ItemQueue = Mailbox<Item>;

  // What the loop keeps of an open request beside the core.
  struct OpenRequest {
    std::unique_ptr<RequestRelay> relay;
    std::string external_id;
    int32_t prompt_tokens = 0;
    absl::Time arrival;
    std::vector<absl::Time> last_token;  // [num_samples]; infinite past before the first
    bool first_token_out = false;
  };

  void Loop();
  absl::Duration LoopPause(absl::Time now) const;
  void LoopTimers(absl::Time now);
  void LoopPublish(absl::Time now);
  ClusterReport LoopReport(absl::Time now) const;
  void LoopStatsLine();
  bool LoopMayEnd(absl::Time now) const;

  void OnItem(absl::Time now, Submission item);
  void OnItem(absl::Time now, const Cancellation& item);
  void OnItem(absl::Time now, const DrainRequest& item);
  void OnItem(absl::Time now, const StopRequest& item);
  void OnItem(absl::Time now, LinkNews item);

  // A sink of this group was told something.
  void Owe(const std::shared_ptr<SinkGroup>& group);
  void FlushOwed();

  void Feed(absl::Time now, Event event);
  void CarryOut(absl::Time now, std::vector<Action> actions);
  void Do(absl::Time now, const SendReserve& action);
  void Do(absl::Time now, const SendPrefill& action);
  void Do(absl::Time now, const SendGenerate& action);
  void Do(absl::Time now, const SendAbort& action);
  void Do(absl::Time now, const SendKvResync& action);
  void Do(absl::Time now, const CloseSession& action);
  void Do(absl::Time now, const NoteStanding& action);
  void Do(absl::Time now, const NotePairStanding& action);
  void Do(absl::Time now, const EmitPromptLogprobs& action);
  void Do(absl::Time now, const EmitToken& action);
  void Do(absl::Time now, const EmitSampleFinish& action);
  void Do(absl::Time now, CompleteRequest action);
  void Do(absl::Time now, FailRequest action);
  template <typename A>
  void SendTo(WorkerIndex worker, const A& action);
  void CountToken(absl::Time now, const EmitToken& action, OpenRequest& open);
  void Forget(RequestId id, const std::string& external_id);
  HelloFields Hello() const;
  int32_t SloClassOf(const SloParams& slo) const;

  const RouterOptions options_;
  const Tokenizer& tokenizer_;
  const Clock& clock_;
  Logger& log_;
  std::vector<TokenId> eos_tokens_;
  const uint64_t epoch_;  // see epoch.h

  // Shared with the sessions, which may outlive the loop by a moment.
  const std::shared_ptr<ItemQueue> mailbox_;
  PublishedView view_;
  std::atomic<uint32_t> next_request_ = 0;
  std::atomic<int64_t> submitted_bytes_ = 0;  // of submissions in the mailbox
  mutable absl::Mutex external_mutex_;
  // Every request from Submit to its terminal event.
  std::unordered_multimap<std::string, RequestId> by_external_id_ ABSL_GUARDED_BY(external_mutex_);

  // The loop thread's own.
  RouterCore core_;
  std::vector<Action> due_;  // decided while others were carried out
  bool carrying_out_ = false;
  const std::vector<SloClass> slo_classes_;
  RouterMetrics metrics_;
  SchedulingMetrics scheduling_;
  TrafficLog traffic_;
  const absl::Time started_;
  std::vector<std::unique_ptr<WorkerLink>> links_;  // by WorkerIndex
  std::unordered_map<RequestId, OpenRequest> open_;
  std::vector<std::shared_ptr<SinkGroup>> owed_;  // distinct; empty between rounds
  bool stopping_ = false;
  absl::Time stop_by_ = absl::InfiniteFuture();
  uint64_t heartbeat_sequence_ = 0;
  absl::Time next_heartbeat_;
  absl::Time next_stats_;
  absl::Time next_publish_;
  absl::Time next_link_tick_ = absl::InfinitePast();  // of all links, so that no round asks each
  bool view_stale_ = true;
  RouterMetrics::Totals stats_base_;

  std::thread thread_;
};

}  // namespace baton::router
