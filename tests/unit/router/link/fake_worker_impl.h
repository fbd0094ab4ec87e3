// The inside of the worker without an engine: one session and its sequences, under one mutex.
#pragma once

#include <grpcpp/grpcpp.h>

#include <cstdint>
#include <limits>
#include <map>
#include <memory>
#include <vector>

#include "absl/synchronization/mutex.h"
#include "common/ids.h"
#include "common/request.h"
#include "proto/baton/v1/worker.grpc.pb.h"
#include "tests/unit/router/link/fake_worker.h"

namespace baton::router {

class FakeWorker::Impl final : public v1::Worker::Service {
 public:
  using Stream = grpc::ServerReaderWriter<v1::WorkerMessage, v1::RouterMessage>;
  static constexpr int32_t kNoGate = std::numeric_limits<int32_t>::max();

  Impl(const FakeWorkerOptions& options, FakeWire* wire, FakeWorker* self)
      : options_(options), wire_(wire), self_(self), room_(options.room) {}

  void Start();
  void Kill();
  grpc::Status Session(grpc::ServerContext*, Stream* stream) override;
  void OnDelivered(const RequestKey& key, bool corrupt);

  const FakeWorkerOptions options_;
  FakeWire* const wire_;
  FakeWorker* const self_;
  int port_ = 0;
  std::unique_ptr<grpc::Server> server_;

  struct Sequence {
    GenerationSpec spec;
    bool generates = false;  // here, from the first token on
    bool sealed = false;
    std::map<int32_t, std::vector<TokenId>> tokens;  // by sample: prompt and output
    std::map<int32_t, bool> ended;
  };

  mutable absl::Mutex mutex_;
  Stream* stream_ ABSL_GUARDED_BY(mutex_) = nullptr;
  std::map<RequestKey, Sequence> sequences_ ABSL_GUARDED_BY(mutex_);
  std::vector<v1::Prefill> held_prefills_ ABSL_GUARDED_BY(mutex_);
  uint64_t boot_ ABSL_GUARDED_BY(mutex_) = 0;
  uint64_t status_sequence_ ABSL_GUARDED_BY(mutex_) = 0;
  int32_t gate_ ABSL_GUARDED_BY(mutex_) = kNoGate;
  int32_t room_ ABSL_GUARDED_BY(mutex_);
  int32_t aborts_ ABSL_GUARDED_BY(mutex_) = 0;
  int32_t sample_aborts_ ABSL_GUARDED_BY(mutex_) = 0;
  int32_t prefills_ ABSL_GUARDED_BY(mutex_) = 0;
  bool hold_prefill_ ABSL_GUARDED_BY(mutex_) = false;
  bool silent_ ABSL_GUARDED_BY(mutex_) = false;
  bool stopping_ ABSL_GUARDED_BY(mutex_) = false;

  static GenerationSpec SpecOf(const v1::GenerationSpec& spec);
  static RequestKey KeyOf(const v1::RequestKey& key);
  static void SetKey(const RequestKey& key, v1::RequestKey* out);

  // The session: what is said and heard.
  void Write(const v1::WorkerMessage& message) ABSL_EXCLUSIVE_LOCKS_REQUIRED(mutex_);
  // The wait is for the end of the session; its time limit is the heartbeat.
  void Heartbeat(Stream* stream);
  void SendWelcome() ABSL_EXCLUSIVE_LOCKS_REQUIRED(mutex_);
  void SendStatus() ABSL_EXCLUSIVE_LOCKS_REQUIRED(mutex_);
  void OnMessage(const v1::RouterMessage& message) ABSL_EXCLUSIVE_LOCKS_REQUIRED(mutex_);
  void OnReserve(const v1::Reserve& reserve) ABSL_EXCLUSIVE_LOCKS_REQUIRED(mutex_);
  void OnAbort(const v1::Abort& abort) ABSL_EXCLUSIVE_LOCKS_REQUIRED(mutex_);

  // The sequences: which tokens come, and when they end.
  static void Begin(GenerationSpec spec, Sequence* sequence);
  // Draws the next token of one sample.
  TokenId Draw(Sequence& sequence, int32_t sample) const;
  static void Add(v1::Tokens* out, int32_t sample, int32_t index, TokenId token);
  void RunPrefill(const v1::Prefill& prefill) ABSL_EXCLUSIVE_LOCKS_REQUIRED(mutex_);
  void EndSampleByAbort(const RequestKey& key, Sequence& sequence, int32_t sample)
      ABSL_EXCLUSIVE_LOCKS_REQUIRED(mutex_);
  // One step after another until every sample has ended or waits at the gate.
  void Pump() ABSL_EXCLUSIVE_LOCKS_REQUIRED(mutex_);
  void RunSample(const RequestKey& key, Sequence& sequence, int32_t sample, bool first_is_known)
      ABSL_EXCLUSIVE_LOCKS_REQUIRED(mutex_);
};

}  // namespace baton::router
