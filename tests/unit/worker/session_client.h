// A router as tests play it: one Session stream, its messages kept in order.
#pragma once

#include <memory>
#include <optional>
#include <set>
#include <string>
#include <thread>
#include <vector>

#include <grpcpp/grpcpp.h>

#include "absl/base/thread_annotations.h"
#include "absl/synchronization/mutex.h"
#include "absl/time/time.h"
#include "common/request.h"
#include "proto/baton/v1/worker.grpc.pb.h"

namespace baton {

// Thread-safe. A thread of its own reads until the stream ends.
class SessionClient {
 public:
  explicit SessionClient(int32_t port);
  ~SessionClient();  // cancels what is open

  bool Send(const v1::RouterMessage& message);
  // Sends Hello and waits for Welcome; false when the stream ended instead.
  bool Hello(const std::string& router_id, uint64_t epoch, int32_t lease_ms = 0,
             uint64_t fingerprint = 0);
  // What the next Hello says; batches are taken apart. 0, as at first: the worker may send none.
  void set_max_batch_messages(int32_t count) { max_batch_messages_ = count; }
  void Heartbeat();
  void Close();  // half-close: this router is done
  void Cancel();

  v1::Welcome welcome() const;
  // All messages so far but statuses and KvEvents.
  std::vector<v1::WorkerMessage> Messages() const;
  v1::WorkerStatus LastStatus() const;
  size_t StatusCount() const;
  // Messages in the largest Batch so far.
  int32_t LargestBatch() const;
  std::vector<v1::KvEvents> KvBatches() const;
  // The hashes that the batches tell of, or none where one of them was lost since a snapshot.
  std::optional<std::set<uint64_t>> KvHashes() const;

  // Waits until `done(*this)` holds, looked at after each message; false after `timeout`.
  template <typename Done>
  bool WaitFor(Done done, absl::Duration timeout = absl::Seconds(20)) {
    const absl::Time deadline = absl::Now() + timeout;
    while (!done(*this)) {
      if (!WaitForNews(deadline)) return done(*this);
    }
    return true;
  }
  // The status that ended the stream; waits for it.
  grpc::Status End(absl::Duration timeout = absl::Seconds(20));

 private:
  bool WaitForNews(absl::Time deadline);
  void ReadLoop();
  void Take(const v1::WorkerMessage& message) ABSL_EXCLUSIVE_LOCKS_REQUIRED(mutex_);

  grpc::ClientContext context_;
  std::unique_ptr<v1::Worker::Stub> stub_;
  std::unique_ptr<grpc::ClientReaderWriter<v1::RouterMessage, v1::WorkerMessage>> stream_;
  absl::Mutex write_mutex_;
  int32_t max_batch_messages_ = 0;

  mutable absl::Mutex mutex_;
  std::vector<v1::WorkerMessage> messages_ ABSL_GUARDED_BY(mutex_);
  v1::Welcome welcome_ ABSL_GUARDED_BY(mutex_);
  std::vector<v1::KvEvents> kv_batches_ ABSL_GUARDED_BY(mutex_);
  v1::WorkerStatus status_ ABSL_GUARDED_BY(mutex_);
  size_t statuses_ ABSL_GUARDED_BY(mutex_) = 0;
  int32_t largest_batch_ ABSL_GUARDED_BY(mutex_) = 0;
  uint64_t news_ ABSL_GUARDED_BY(mutex_) = 0;
  uint64_t seen_news_ ABSL_GUARDED_BY(mutex_) = 0;
  bool ended_ ABSL_GUARDED_BY(mutex_) = false;
  grpc::Status end_ ABSL_GUARDED_BY(mutex_);
  std::thread reader_;
};

// `spec` as the wire says it.
void SpecToProto(const GenerationSpec& spec, v1::GenerationSpec* out);
void KeyToProto(uint64_t request, uint32_t attempt, v1::RequestKey* out);

// What one request's streams have said so far, over all of the clients that are asked.
struct Transcript {
  std::vector<std::vector<TokenId>> tokens;  // [num_samples]
  std::vector<std::string> finish_reasons;   // [num_samples], "" while open
  bool reserved = false, refused = false, prefill_done = false, sealed = false, failed = false;
  v1::Reserved reservation;
  v1::Refused refusal;
  v1::Failed failure;
  v1::Sealed seal;
  bool AllFinished() const;
};
Transcript TranscriptOf(const std::vector<const SessionClient*>& clients, uint64_t request,
                        int32_t num_samples);

}  // namespace baton
