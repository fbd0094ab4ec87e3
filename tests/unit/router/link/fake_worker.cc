#include "tests/unit/router/link/fake_worker.h"

#include <grpcpp/grpcpp.h>

#include <atomic>
#include <limits>
#include <thread>
#include <utility>

#include "absl/strings/str_cat.h"
#include "common/check.h"
#include "common/hash.h"
#include "proto/baton/v1/worker.grpc.pb.h"

namespace baton::router {
namespace {

constexpr int32_t kNoGate = std::numeric_limits<int32_t>::max();

GenerationSpec SpecOf(const v1::GenerationSpec& spec) {
  GenerationSpec out;
  out.tokens.assign(spec.tokens().begin(), spec.tokens().end());
  out.prompt_length = spec.prompt_length();
  out.num_samples = spec.num_samples();
  out.first_sample = spec.first_sample();
  out.sampling.seed = spec.sampling().seed();
  out.sampling.num_logprobs = spec.sampling().num_logprobs();
  out.stopping.max_tokens = spec.stopping().max_tokens();
  return out;
}

RequestKey KeyOf(const v1::RequestKey& key) { return {RequestId(key.request()), key.attempt()}; }

void SetKey(const RequestKey& key, v1::RequestKey* out) {
  out->set_request(key.request.value());
  out->set_attempt(key.attempt);
}

}  // namespace

TokenId FakeToken(uint64_t seed, int32_t sample, const std::vector<TokenId>& tokens) {
  uint64_t state = HashCombine(seed, static_cast<uint64_t>(sample));
  for (const TokenId token : tokens) state = HashCombine(state, static_cast<uint64_t>(token));
  return static_cast<TokenId>('a' + state % 26);
}

std::vector<TokenId> FakeOutput(const GenerationSpec& spec, int32_t sample) {
  std::vector<TokenId> all(spec.tokens.begin(), spec.tokens.begin() + spec.prompt_length);
  std::vector<TokenId> output;
  for (int32_t i = 0; i < spec.stopping.max_tokens; ++i) {
    output.push_back(FakeToken(spec.sampling.seed, sample, all));
    all.push_back(output.back());
  }
  return output;
}

void FakeWire::Attach(uint64_t boot, FakeWorker* worker) {
  absl::MutexLock lock(&mutex_);
  workers_[boot] = worker;
}

void FakeWire::Detach(uint64_t boot) {
  absl::MutexLock lock(&mutex_);
  workers_.erase(boot);
}

using Stream = grpc::ServerReaderWriter<v1::WorkerMessage, v1::RouterMessage>;

class FakeWorker::Impl final : public v1::Worker::Service {
 public:
  Impl(const FakeWorkerOptions& options, FakeWire* wire, FakeWorker* self)
      : options_(options), wire_(wire), self_(self), room_(options.room) {}

  void Start() {
    grpc::ServerBuilder builder;
    int port = port_;
    builder.AddListeningPort(absl::StrCat("127.0.0.1:", port), grpc::InsecureServerCredentials(),
                             &port);
    builder.RegisterService(this);
    static std::atomic<uint64_t> next_boot{1};
    const uint64_t boot = next_boot++;
    {
      absl::MutexLock lock(&mutex_);
      boot_ = boot;
      sequences_.clear();
      stopping_ = false;
    }
    wire_->Attach(boot, self_);  // never under mutex_: the wire calls us under its own
    server_ = builder.BuildAndStart();
    BATON_CHECK(server_ != nullptr && port > 0) << "port " << port_;
    port_ = port;
  }

  void Kill() {
    if (server_ == nullptr) return;
    uint64_t boot = 0;
    {
      absl::MutexLock lock(&mutex_);
      boot = boot_;
    }
    wire_->Detach(boot);
    {
      absl::MutexLock lock(&mutex_);
      stopping_ = true;
      sequences_.clear();
    }
    server_->Shutdown(absl::ToChronoTime(absl::Now()));
    server_->Wait();
    server_.reset();
  }

  grpc::Status Session(grpc::ServerContext*, Stream* stream) override {
    v1::RouterMessage message;
    if (!stream->Read(&message) || !message.has_hello()) return grpc::Status::OK;
    const uint64_t wanted = message.hello().model_fingerprint();
    if (wanted != 0 && wanted != options_.fingerprint) {
      return {grpc::StatusCode::FAILED_PRECONDITION, "fingerprints differ"};
    }
    {
      absl::MutexLock lock(&mutex_);
      stream_ = stream;
      SendWelcome();
      SendStatus();
    }
    std::thread heartbeat([this, stream] { Heartbeat(stream); });
    while (stream->Read(&message)) {
      absl::MutexLock lock(&mutex_);
      OnMessage(message);
    }
    {
      absl::MutexLock lock(&mutex_);
      if (stream_ == stream) stream_ = nullptr;
      sequences_.clear();
    }
    heartbeat.join();
    return grpc::Status::OK;
  }

  void OnDelivered(const RequestKey& key, bool corrupt) {
    absl::MutexLock lock(&mutex_);
    const auto found = sequences_.find(key);
    if (found == sequences_.end()) return;
    v1::WorkerMessage message;
    if (corrupt) {
      sequences_.erase(found);
      SetKey(key, message.mutable_failed()->mutable_key());
      message.mutable_failed()->set_reason(v1::Failed::CHECKSUM);
      return Write(message);
    }
    found->second.sealed = true;
    v1::Sealed* sealed = message.mutable_sealed();
    SetKey(key, sealed->mutable_key());
    sealed->set_kv_bytes(1000);
    sealed->set_transfer_ms(1.5);
    sealed->set_transfer_exposed_ms(0.5);
    sealed->set_transport("loopback");
    Write(message);
    Pump();
  }

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

  void Write(const v1::WorkerMessage& message) ABSL_EXCLUSIVE_LOCKS_REQUIRED(mutex_) {
    if (stream_ != nullptr && !stopping_) stream_->Write(message);
  }

  // The wait is for the end of the session; its time limit is the heartbeat.
  void Heartbeat(Stream* stream) {
    absl::MutexLock lock(&mutex_);
    const auto ended = [this, stream]()
                           ABSL_EXCLUSIVE_LOCKS_REQUIRED(mutex_) { return stream_ != stream; };
    while (!mutex_.AwaitWithTimeout(absl::Condition(&ended), options_.heartbeat)) {
      if (!silent_) SendStatus();
    }
  }

  void SendWelcome() ABSL_EXCLUSIVE_LOCKS_REQUIRED(mutex_) {
    v1::WorkerMessage message;
    v1::Welcome* welcome = message.mutable_welcome();
    welcome->set_worker_id(options_.id);
    welcome->set_boot_id(boot_);
    welcome->set_role(options_.role == Role::kPrefill  ? v1::WORKER_ROLE_PREFILL
                      : options_.role == Role::kDecode ? v1::WORKER_ROLE_DECODE
                                                       : v1::WORKER_ROLE_BOTH);
    welcome->set_protocol_version(1);
    welcome->set_model_fingerprint(options_.fingerprint);
    welcome->set_model_name("fake");
    welcome->set_vocab_size(300);
    welcome->set_max_model_len(options_.max_model_len);
    welcome->set_block_size(16);
    welcome->set_total_blocks(1000);
    welcome->set_max_batch_sequences(64);
    welcome->set_max_batch_tokens(512);
    welcome->set_prefill_credits(options_.credits);
    welcome->mutable_kv_address()->set_boot_id(boot_);
    Write(message);
  }

  void SendStatus() ABSL_EXCLUSIVE_LOCKS_REQUIRED(mutex_) {
    v1::WorkerMessage message;
    v1::WorkerStatus* status = message.mutable_status();
    status->set_sequence(++status_sequence_);
    status->set_running(static_cast<int32_t>(sequences_.size()));
    status->mutable_blocks()->set_free(1000 - static_cast<int32_t>(sequences_.size()));
    status->set_credits(options_.credits);
    Write(message);
  }

  void OnMessage(const v1::RouterMessage& message) ABSL_EXCLUSIVE_LOCKS_REQUIRED(mutex_) {
    if (message.has_reserve()) {
      OnReserve(message.reserve());
    } else if (message.has_prefill()) {
      if (hold_prefill_) {
        sequences_[KeyOf(message.prefill().key())].spec = SpecOf(message.prefill().spec());
        held_prefills_.push_back(message.prefill());
      } else {
        RunPrefill(message.prefill());
      }
    } else if (message.has_generate()) {
      Sequence& sequence = sequences_[KeyOf(message.generate().key())];
      Begin(SpecOf(message.generate().spec()), &sequence);
      sequence.generates = true;
      Pump();
    } else if (message.has_abort()) {
      OnAbort(message.abort());
    }
  }

  void OnReserve(const v1::Reserve& reserve) ABSL_EXCLUSIVE_LOCKS_REQUIRED(mutex_) {
    const RequestKey key = KeyOf(reserve.key());
    v1::WorkerMessage message;
    if (static_cast<int32_t>(sequences_.size()) >= room_) {
      v1::Refused* refused = message.mutable_refused();
      SetKey(key, refused->mutable_key());
      refused->set_reason(v1::Refused::NO_ROOM);
    } else {
      Begin(SpecOf(reserve.spec()), &sequences_[key]);
      v1::Reserved* reserved = message.mutable_reserved();
      SetKey(key, reserved->mutable_key());
      reserved->set_ticket("ticket");
    }
    Write(message);
  }

  static void Begin(GenerationSpec spec, Sequence* sequence) {
    sequence->spec = std::move(spec);
    for (int32_t i = 0; i < sequence->spec.num_samples; ++i) {
      const int32_t sample = sequence->spec.first_sample + i;
      sequence->tokens[sample] = sequence->spec.tokens;
      sequence->ended[sample] = false;
    }
  }

  // Draws the next token of one sample.
  TokenId Draw(Sequence& sequence, int32_t sample) const {
    std::vector<TokenId>& tokens = sequence.tokens[sample];
    const int32_t index = static_cast<int32_t>(tokens.size()) - sequence.spec.prompt_length;
    const TokenId token = index == options_.eos_at
                              ? options_.eos_token
                              : FakeToken(sequence.spec.sampling.seed, sample, tokens);
    tokens.push_back(token);
    return token;
  }

  static void Add(v1::Tokens* out, int32_t sample, int32_t index, TokenId token) {
    v1::TokenOutput* entry = out->add_tokens();
    entry->set_sample(sample);
    entry->set_index(index);
    entry->set_token(token);
  }

  void RunPrefill(const v1::Prefill& prefill) ABSL_EXCLUSIVE_LOCKS_REQUIRED(mutex_) {
    ++prefills_;
    const RequestKey key = KeyOf(prefill.key());
    Sequence sequence;
    Begin(SpecOf(prefill.spec()), &sequence);
    sequences_.erase(key);
    v1::WorkerMessage message;
    SetKey(key, message.mutable_tokens()->mutable_key());
    const auto index =
        static_cast<int32_t>(sequence.spec.tokens.size()) - sequence.spec.prompt_length;
    for (const auto& [sample, ended] : sequence.ended) {
      Add(message.mutable_tokens(), sample, index, Draw(sequence, sample));
    }
    Write(message);
    message.Clear();
    v1::PrefillDone* done = message.mutable_prefill_done();
    SetKey(key, done->mutable_key());
    done->set_queue_ms(0.25);
    done->set_prefill_ms(3);
    Write(message);
    if (!wire_->Deliver(prefill.destination().boot_id(), key)) {
      message.Clear();
      v1::Failed* failed = message.mutable_failed();
      SetKey(key, failed->mutable_key());
      failed->set_reason(v1::Failed::PEER_LOST);
      Write(message);
    }
  }

  void OnAbort(const v1::Abort& abort) ABSL_EXCLUSIVE_LOCKS_REQUIRED(mutex_) {
    const RequestKey key = KeyOf(abort.key());
    const auto found = sequences_.find(key);
    ++(abort.has_sample() ? sample_aborts_ : aborts_);
    if (found == sequences_.end()) return;
    if (abort.has_sample()) {
      EndSampleByAbort(key, found->second, abort.sample());
      return;
    }
    sequences_.erase(found);
    std::erase_if(held_prefills_,
                  [&](const v1::Prefill& prefill) { return KeyOf(prefill.key()) == key; });
    v1::WorkerMessage message;
    SetKey(key, message.mutable_failed()->mutable_key());
    message.mutable_failed()->set_reason(v1::Failed::ABORTED);
    Write(message);
  }

  void EndSampleByAbort(const RequestKey& key, Sequence& sequence, int32_t sample)
      ABSL_EXCLUSIVE_LOCKS_REQUIRED(mutex_) {
    if (std::exchange(sequence.ended[sample], true)) return;
    v1::WorkerMessage message;
    v1::Finished* finished = message.mutable_finished();
    SetKey(key, finished->mutable_key());
    finished->set_sample(sample);
    finished->set_finish_reason("abort");
    finished->set_stop_token(-1);
    Write(message);
    Pump();
  }

  // One step after another until every sample has ended or waits at the gate.
  void Pump() ABSL_EXCLUSIVE_LOCKS_REQUIRED(mutex_) {
    for (auto it = sequences_.begin(); it != sequences_.end();) {
      Sequence& sequence = it->second;
      const bool first_is_known = sequence.sealed;
      if (!sequence.generates && !sequence.sealed) {
        ++it;
        continue;
      }
      bool all_ended = true;
      for (auto& [sample, ended] : sequence.ended) {
        if (!ended) RunSample(it->first, sequence, sample, first_is_known);
        all_ended = all_ended && ended;
      }
      it = all_ended ? sequences_.erase(it) : std::next(it);
    }
  }

  void RunSample(const RequestKey& key, Sequence& sequence, int32_t sample, bool first_is_known)
      ABSL_EXCLUSIVE_LOCKS_REQUIRED(mutex_) {
    std::vector<TokenId>& tokens = sequence.tokens[sample];
    const int32_t prompt = sequence.spec.prompt_length;
    if (first_is_known && tokens.size() == sequence.spec.tokens.size()) Draw(sequence, sample);
    v1::WorkerMessage message;
    SetKey(key, message.mutable_tokens()->mutable_key());
    const auto count = [&] { return static_cast<int32_t>(tokens.size()) - prompt; };
    const auto at_eos = [&] { return count() > 0 && tokens.back() == options_.eos_token; };
    while (!at_eos() && count() < sequence.spec.stopping.max_tokens && count() < gate_) {
      const int32_t index = count();
      Add(message.mutable_tokens(), sample, index, Draw(sequence, sample));
    }
    if (message.tokens().tokens_size() > 0) Write(message);
    if (!at_eos() && count() < sequence.spec.stopping.max_tokens) return;
    message.Clear();
    v1::Finished* finished = message.mutable_finished();
    SetKey(key, finished->mutable_key());
    finished->set_sample(sample);
    finished->set_finish_reason(at_eos() ? "stop" : "length");
    finished->set_stop_token(at_eos() ? options_.eos_token : -1);
    finished->set_output_tokens(count());
    finished->set_decode_ms(5);
    Write(message);
    sequence.ended[sample] = true;
  }
};

bool FakeWire::Deliver(uint64_t boot, const RequestKey& key) {
  absl::MutexLock lock(&mutex_);
  const auto found = workers_.find(boot);
  if (found == workers_.end()) return false;
  found->second->impl_->OnDelivered(key, corrupt_);
  return true;
}

void FakeWire::SetCorrupt(bool corrupt) {
  absl::MutexLock lock(&mutex_);
  corrupt_ = corrupt;
}

FakeWorker::FakeWorker(const FakeWorkerOptions& options, FakeWire* wire)
    : impl_(std::make_unique<Impl>(options, wire, this)) {
  Start();
}
FakeWorker::~FakeWorker() { Kill(); }

std::string FakeWorker::address() const { return absl::StrCat("127.0.0.1:", impl_->port_); }
void FakeWorker::Kill() { impl_->Kill(); }
void FakeWorker::Start() { impl_->Start(); }

void FakeWorker::SetGate(int32_t index) {
  absl::MutexLock lock(&impl_->mutex_);
  impl_->gate_ = index;
  impl_->Pump();
}

void FakeWorker::HoldPrefill(bool hold) {
  absl::MutexLock lock(&impl_->mutex_);
  impl_->hold_prefill_ = hold;
  if (hold) return;
  for (const v1::Prefill& prefill : std::exchange(impl_->held_prefills_, {})) {
    impl_->RunPrefill(prefill);
  }
}

void FakeWorker::SetSilent(bool silent) {
  absl::MutexLock lock(&impl_->mutex_);
  impl_->silent_ = silent;
}

void FakeWorker::SetRoom(int32_t room) {
  absl::MutexLock lock(&impl_->mutex_);
  impl_->room_ = room;
}

int32_t FakeWorker::open_keys() const {
  absl::MutexLock lock(&impl_->mutex_);
  return static_cast<int32_t>(impl_->sequences_.size());
}
int32_t FakeWorker::aborts() const {
  absl::MutexLock lock(&impl_->mutex_);
  return impl_->aborts_;
}
int32_t FakeWorker::sample_aborts() const {
  absl::MutexLock lock(&impl_->mutex_);
  return impl_->sample_aborts_;
}
int32_t FakeWorker::prefills_started() const {
  absl::MutexLock lock(&impl_->mutex_);
  return impl_->prefills_;
}
uint64_t FakeWorker::boot() const {
  absl::MutexLock lock(&impl_->mutex_);
  return impl_->boot_;
}

}  // namespace baton::router
