// The border between the fronts (HTTP, gRPC) and the router proper. Fronts parse, validate, render
// and tokenize; they submit a RoutedRequest and are told of text as it becomes certain.
#pragma once

#include <cstdint>
#include <functional>
#include <memory>
#include <optional>
#include <string>
#include <vector>

#include "absl/status/statusor.h"
#include "absl/time/time.h"
#include "common/ids.h"
#include "common/request.h"

namespace baton {

// What the client asked for beyond tokens.
struct OutputParams {
  std::vector<std::string> stop;  // stop strings
  bool include_stop_str_in_output = false;
  bool skip_special_tokens = true;
};

struct SloParams {
  std::string slo_class;  // empty: the default class
  std::optional<double> ttft_ms;
  std::optional<double> tpot_ms;
};

struct RoutedRequest {
  GenerationSpec spec;  // tokens = prompt
  OutputParams output;
  SloParams slo;
  std::string external_id;  // the client's x-request-id or ours; for logs
  int32_t priority = 0;
  uint64_t tenant = 0;     // TenantOf(): whose fair share this counts against
  absl::Duration timeout;  // from arrival; the deadline of the whole request
};

// One token as the client will see it. `text` is the piece for logprobs; the text that is certain
// so far travels in SampleDelta::text.
struct OutputToken {
  TokenId token = 0;
  std::string piece;  // decoded alone; may hold U+FFFD for part of a character
  float logprob = 0.0f;
  std::vector<std::pair<TokenLogprob, std::string>> top;  // with their pieces
};

struct SampleDelta {
  int32_t sample = 0;
  std::string text;                 // never half a character; may be empty
  std::vector<OutputToken> tokens;  // that this delta accounts for
  bool finished = false;            // then the fields below are set
  FinishReason reason = FinishReason::kStop;
  std::string stop_reason;  // the stop string, when one ended it
  TokenId stop_token = -1;  // the stop token id, when a stop_token_ids entry ended it
};

struct RequestTimings {
  double queue_ms = 0, reserve_ms = 0, prefill_ms = 0, transfer_ms = 0, transfer_exposed_ms = 0,
         decode_queue_ms = 0, decode_ms = 0, ttft_ms = 0, tpot_ms = 0, total_ms = 0;
  int64_t kv_bytes = 0;
  std::string prefill_worker, decode_worker, transport;
  int32_t attempts = 1;
};

struct RequestSummary {
  int32_t prompt_tokens = 0;
  int32_t completion_tokens = 0;  // over all samples
  int32_t cached_tokens = 0;      // prompt tokens that some prefix cache held
  RequestTimings timings;
};

// Why a request ended without an answer. One table maps it to HTTP and one to gRPC.
enum class RequestErrorCode {
  kInvalid,        // 400
  kContextLength,  // 400
  kOverloaded,     // 429 + Retry-After
  kNeverFits,      // 400: larger than any worker's KV pool
  kNoWorkers,      // 503
  kPrefillLost,    // 503 prefill_lost
  kDecodeLost,     // 503 decode_lost
  kKvExhausted,    // 503 kv_exhausted
  kDraining,       // 503
  kQuarantined,    // 500 request_quarantined
  kDeadline,       // 504 naming the phase
  kInternal,       // 500
  kAborted,        // client left, or Abort
};

struct RequestError {
  RequestErrorCode code = RequestErrorCode::kInternal;
  std::string message;
  absl::Duration retry_after;  // kOverloaded, kNoWorkers
};

// The sinks of one front's calls. What they are told may wait in the front until Flush, so that
// many sinks cost one wakeup. Thread-safe.
class SinkGroup {
 public:
  virtual ~SinkGroup() = default;
  virtual void Flush() = 0;  // must not block
};

// Told of one request's progress, on the router's loop thread: must not block. Order: OnPrompt,
// then OnDelta…, then exactly one of OnFinish or OnError, after which it is released. Nothing is
// called after Cancel has returned on the loop thread.
class ResponseSink {
 public:
  virtual ~ResponseSink() = default;
  // One entry for each prompt token; the first has no log-probability and its value means nothing.
  virtual void OnPromptLogprobs(std::vector<OutputToken> tokens) = 0;
  virtual void OnDelta(SampleDelta delta) = 0;
  virtual void OnFinish(RequestSummary summary) = 0;
  virtual void OnError(RequestError error) = 0;
  // To be flushed soon after each of the above; null: there is no need. Shared by its sinks, their
  // front and those who owe it a Flush.
  virtual std::shared_ptr<SinkGroup> group() const { return nullptr; }
};

// What fronts need to know of the served model. Known once the first worker has said Welcome.
struct ServedModel {
  std::string name;
  std::string root;  // directory or dummy:CONFIG
  int32_t max_model_len = 0;
  int32_t vocab_size = 0;
  int64_t created_unix_s = 0;
};

enum class ReadyPhase { kLoading, kReady, kDraining };
struct Readiness {
  ReadyPhase phase = ReadyPhase::kLoading;
  std::string detail;  // "waiting for a decode worker"
};

struct LoadView {
  struct Worker {
    std::string id, role;
    bool alive = false;
    int32_t running = 0, free_blocks = 0, total_blocks = 0;
  };
  int32_t requests_running = 0, requests_waiting = 0;
  std::vector<Worker> workers;
};

struct ClusterReport;  // router/cluster_report.h

// Thread-safe: implementations post to the router's loop.
class CompletionService {
 public:
  virtual ~CompletionService() = default;
  // `sink` is shared between the front's call object and the router until the terminal event.
  virtual RequestId Submit(RoutedRequest request, std::shared_ptr<ResponseSink> sink) = 0;
  // Idempotent; the sink then gets OnError(kAborted) if it has not ended.
  virtual void Cancel(RequestId id) = 0;
  // By external id, for the Control API. False: unknown or ended.
  virtual bool CancelExternal(const std::string& external_id) = 0;
  virtual void Drain() = 0;

  virtual ServedModel model() const = 0;
  virtual Readiness readiness() const = 0;
  virtual LoadView load() const = 0;
  virtual ClusterReport report() const = 0;
};

}  // namespace baton
