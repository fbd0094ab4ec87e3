// A worker without an engine: speaks the Session protocol in this process, and draws tokens that
// depend on every token before them, so that a request resumed with a wrong prompt is noticed.
#pragma once

#include <cstdint>
#include <functional>
#include <map>
#include <memory>
#include <string>
#include <vector>

#include "absl/synchronization/mutex.h"
#include "common/ids.h"
#include "common/request.h"
#include "router/core/types.h"

namespace baton::router {

// The token at `index` after `tokens` (prompt and output so far): a lower-case letter.
TokenId FakeToken(uint64_t seed, int32_t sample, const std::vector<TokenId>& tokens);
// All tokens of one sample, as a single run without any failure gives them.
std::vector<TokenId> FakeOutput(const GenerationSpec& spec, int32_t sample);

class FakeWorker;

// What stands for the KV wire: prefill workers find decode workers by boot id. Thread-safe.
class FakeWire {
 public:
  void Attach(uint64_t boot, FakeWorker* worker);
  void Detach(uint64_t boot);
  // False: the peer is gone.
  bool Deliver(uint64_t boot, const RequestKey& key);
  // What is delivered from now on does not pass its checksum.
  void SetCorrupt(bool corrupt);

 private:
  absl::Mutex mutex_;
  std::map<uint64_t, FakeWorker*> workers_ ABSL_GUARDED_BY(mutex_);
  bool corrupt_ ABSL_GUARDED_BY(mutex_) = false;
};

struct FakeWorkerOptions {
  std::string id;
  Role role = Role::kBoth;
  uint64_t fingerprint = 7;
  int32_t credits = 8;
  int32_t max_model_len = 4096;
  int32_t room = 1 << 20;  // reservations held at once
  int32_t eos_at = -1;     // this index ends each sample by the end token; -1: never
  TokenId eos_token = 256;
  absl::Duration heartbeat = absl::Milliseconds(50);
};

// Thread-safe.
class FakeWorker {
 public:
  FakeWorker(const FakeWorkerOptions& options, FakeWire* wire);
  ~FakeWorker();

  std::string address() const;
  // As kill -9: sessions break, nothing is said. Start() makes a new boot at the same port.
  void Kill();
  void Start();

  // Output tokens with an index at or above the gate wait until it is raised. No gate at first.
  void SetGate(int32_t index);
  // While held, prefill workers do not start what they were given.
  void HoldPrefill(bool hold);
  // Heartbeats stop; the stream stays open.
  void SetSilent(bool silent);
  void SetRoom(int32_t room);

  int32_t open_keys() const;  // that have not ended
  int32_t aborts() const;     // of whole requests
  int32_t sample_aborts() const;
  int32_t prefills_started() const;
  uint64_t boot() const;

 private:
  friend class FakeWire;
  class Impl;
  std::unique_ptr<Impl> impl_;
};

}  // namespace baton::router
