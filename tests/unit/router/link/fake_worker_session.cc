// What a fake worker says to its router, and what it does when it is spoken to.
#include <grpcpp/grpcpp.h>

#include <cstdint>
#include <thread>
#include <vector>

#include "absl/synchronization/mutex.h"
#include "common/ids.h"
#include "common/request.h"
#include "proto/baton/v1/worker.grpc.pb.h"
#include "tests/unit/router/link/fake_worker_impl.h"

namespace baton::router {

GenerationSpec FakeWorker::Impl::SpecOf(const v1::GenerationSpec& spec) {
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

RequestKey FakeWorker::Impl::KeyOf(const v1::RequestKey& key) {
  return {RequestId(key.request()), key.attempt()};
}

void FakeWorker::Impl::SetKey(const RequestKey& key, v1::RequestKey* out) {
  out->set_request(key.request.value());
  out->set_attempt(key.attempt);
}

grpc::Status FakeWorker::Impl::Session(grpc::ServerContext*, Stream* stream) {
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

void FakeWorker::Impl::Write(const v1::WorkerMessage& message) {
  if (stream_ != nullptr && !stopping_) stream_->Write(message);
}

void FakeWorker::Impl::Heartbeat(Stream* stream) {
  absl::MutexLock lock(&mutex_);
  const auto ended = [this, stream]()
                         ABSL_EXCLUSIVE_LOCKS_REQUIRED(mutex_) { return stream_ != stream; };
  while (!mutex_.AwaitWithTimeout(absl::Condition(&ended), options_.heartbeat)) {
    if (!silent_) SendStatus();
  }
}

void FakeWorker::Impl::SendWelcome() {
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

void FakeWorker::Impl::SendStatus() {
  v1::WorkerMessage message;
  v1::WorkerStatus* status = message.mutable_status();
  status->set_sequence(++status_sequence_);
  status->set_running(static_cast<int32_t>(sequences_.size()));
  status->mutable_blocks()->set_free(1000 - static_cast<int32_t>(sequences_.size()));
  status->set_credits(options_.credits);
  Write(message);
}

void FakeWorker::Impl::OnMessage(const v1::RouterMessage& message) {
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

void FakeWorker::Impl::OnReserve(const v1::Reserve& reserve) {
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

void FakeWorker::Impl::OnAbort(const v1::Abort& abort) {
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

void FakeWorker::Impl::OnDelivered(const RequestKey& key, bool corrupt) {
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

}  // namespace baton::router
