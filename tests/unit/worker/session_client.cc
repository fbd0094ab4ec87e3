#include "tests/unit/worker/session_client.h"

#include <algorithm>
#include <map>

#include "absl/strings/str_cat.h"

namespace baton {

SessionClient::SessionClient(int32_t port)
    : stub_(v1::Worker::NewStub(grpc::CreateChannel(absl::StrCat("127.0.0.1:", port),
                                                    grpc::InsecureChannelCredentials()))),
      stream_(stub_->Session(&context_)),
      reader_([this] { ReadLoop(); }) {}

SessionClient::~SessionClient() {
  context_.TryCancel();
  reader_.join();
}

bool SessionClient::Send(const v1::RouterMessage& message) {
  absl::MutexLock lock(&write_mutex_);
  return stream_->Write(message);
}

bool SessionClient::Hello(const std::string& router_id, uint64_t epoch, int32_t lease_ms,
                          uint64_t fingerprint) {
  v1::RouterMessage message;
  v1::Hello* hello = message.mutable_hello();
  hello->set_router_id(router_id);
  hello->set_router_epoch(epoch);
  hello->set_protocol_version(1);
  hello->set_lease_ms(lease_ms);
  hello->set_model_fingerprint(fingerprint);
  hello->set_max_batch_messages(max_batch_messages_);
  if (!Send(message)) return false;
  const auto has_end = [](const SessionClient& client) {
    absl::MutexLock lock(&client.mutex_);
    return client.ended_ || client.welcome_.boot_id() != 0;
  };
  return WaitFor(has_end) && welcome().boot_id() != 0;
}

void SessionClient::Heartbeat() {
  v1::RouterMessage message;
  message.mutable_heartbeat();
  Send(message);
}

void SessionClient::Close() {
  absl::MutexLock lock(&write_mutex_);
  stream_->WritesDone();
}

void SessionClient::Cancel() { context_.TryCancel(); }

v1::Welcome SessionClient::welcome() const {
  absl::MutexLock lock(&mutex_);
  return welcome_;
}

std::vector<v1::WorkerMessage> SessionClient::Messages() const {
  absl::MutexLock lock(&mutex_);
  return messages_;
}

v1::WorkerStatus SessionClient::LastStatus() const {
  absl::MutexLock lock(&mutex_);
  return status_;
}

size_t SessionClient::StatusCount() const {
  absl::MutexLock lock(&mutex_);
  return statuses_;
}

int32_t SessionClient::LargestBatch() const {
  absl::MutexLock lock(&mutex_);
  return largest_batch_;
}

std::vector<v1::KvEvents> SessionClient::KvBatches() const {
  absl::MutexLock lock(&mutex_);
  return kv_batches_;
}

std::optional<std::set<uint64_t>> SessionClient::KvHashes() const {
  std::optional<std::set<uint64_t>> hashes;
  uint64_t sequence = 0;
  for (const v1::KvEvents& batch : KvBatches()) {
    if (batch.snapshot()) {
      hashes.emplace();
    } else if (batch.sequence() != sequence + 1) {
      hashes.reset();
    }
    sequence = batch.sequence();
    if (!hashes) continue;
    for (const uint64_t hash : batch.removed()) hashes->erase(hash);
    hashes->insert(batch.stored().begin(), batch.stored().end());
  }
  return hashes;
}

bool SessionClient::WaitForNews(absl::Time deadline) {
  absl::MutexLock lock(&mutex_);
  const auto has_news = [this]()
                            ABSL_EXCLUSIVE_LOCKS_REQUIRED(mutex_) { return news_ != seen_news_; };
  const bool news = mutex_.AwaitWithDeadline(absl::Condition(&has_news), deadline);
  seen_news_ = news_;
  return news;
}

grpc::Status SessionClient::End(absl::Duration timeout) {
  absl::MutexLock lock(&mutex_);
  const auto is_ended = [this]() ABSL_EXCLUSIVE_LOCKS_REQUIRED(mutex_) { return ended_; };
  if (!mutex_.AwaitWithTimeout(absl::Condition(&is_ended), timeout)) {
    return {grpc::StatusCode::UNKNOWN, "the stream is still open"};
  }
  return end_;
}

void SessionClient::ReadLoop() {
  v1::WorkerMessage message;
  while (stream_->Read(&message)) {
    absl::MutexLock lock(&mutex_);
    ++news_;
    largest_batch_ = std::max(largest_batch_, message.batch().messages_size());
    for (const v1::WorkerMessage& each : message.batch().messages()) Take(each);
    if (!message.has_batch()) Take(message);
  }
  const grpc::Status end = stream_->Finish();
  absl::MutexLock lock(&mutex_);
  end_ = end;
  ended_ = true;
  ++news_;
}

void SessionClient::Take(const v1::WorkerMessage& message) {
  if (message.has_status()) {
    status_ = message.status();
    ++statuses_;
  } else if (message.has_kv_events()) {
    kv_batches_.push_back(message.kv_events());
  } else {
    if (message.has_welcome()) welcome_ = message.welcome();
    messages_.push_back(message);
  }
}

void KeyToProto(uint64_t request, uint32_t attempt, v1::RequestKey* out) {
  out->set_request(request);
  out->set_attempt(attempt);
}

void SpecToProto(const GenerationSpec& spec, v1::GenerationSpec* out) {
  out->mutable_tokens()->Add(spec.tokens.begin(), spec.tokens.end());
  out->set_prompt_length(spec.prompt_length);
  out->set_num_samples(spec.num_samples);
  out->set_first_sample(spec.first_sample);
  out->set_cache_salt(spec.cache_salt);
  v1::SamplingSpec* sampling = out->mutable_sampling();
  sampling->set_temperature(spec.sampling.temperature);
  sampling->set_top_p(spec.sampling.top_p);
  sampling->set_min_p(spec.sampling.min_p);
  sampling->set_top_k(spec.sampling.top_k);
  sampling->set_presence_penalty(spec.sampling.presence_penalty);
  sampling->set_frequency_penalty(spec.sampling.frequency_penalty);
  sampling->set_repetition_penalty(spec.sampling.repetition_penalty);
  sampling->set_seed(spec.sampling.seed);
  sampling->set_num_logprobs(spec.sampling.num_logprobs);
  sampling->set_num_prompt_logprobs(spec.sampling.num_prompt_logprobs);
  for (const auto& [token, bias] : spec.sampling.logit_bias) {
    v1::LogitBias* entry = sampling->add_logit_bias();
    entry->set_token(token);
    entry->set_bias(bias);
  }
  v1::StoppingSpec* stopping = out->mutable_stopping();
  stopping->set_max_tokens(spec.stopping.max_tokens);
  stopping->set_min_tokens(spec.stopping.min_tokens);
  stopping->set_ignore_eos(spec.stopping.ignore_eos);
  stopping->mutable_stop_token_ids()->Add(spec.stopping.stop_token_ids.begin(),
                                          spec.stopping.stop_token_ids.end());
}

bool Transcript::AllFinished() const {
  return std::none_of(finish_reasons.begin(), finish_reasons.end(),
                      [](const std::string& reason) { return reason.empty(); });
}

Transcript TranscriptOf(const std::vector<const SessionClient*>& clients, uint64_t request,
                        int32_t num_samples) {
  Transcript out;
  std::vector<std::map<int32_t, TokenId>> tokens(static_cast<size_t>(num_samples));
  out.finish_reasons.resize(static_cast<size_t>(num_samples));
  for (const SessionClient* client : clients) {
    for (const v1::WorkerMessage& message : client->Messages()) {
      if (message.has_tokens() && message.tokens().key().request() == request) {
        for (const v1::TokenOutput& token : message.tokens().tokens()) {
          tokens.at(static_cast<size_t>(token.sample())).emplace(token.index(), token.token());
        }
      } else if (message.has_finished() && message.finished().key().request() == request) {
        out.finish_reasons.at(static_cast<size_t>(message.finished().sample())) =
            message.finished().finish_reason();
      } else if (message.has_reserved() && message.reserved().key().request() == request) {
        out.reserved = true;
        out.reservation = message.reserved();
      } else if (message.has_refused() && message.refused().key().request() == request) {
        out.refused = true;
        out.refusal = message.refused();
      } else if (message.has_prefill_done() && message.prefill_done().key().request() == request) {
        out.prefill_done = true;
      } else if (message.has_sealed() && message.sealed().key().request() == request) {
        out.sealed = true;
        out.seal = message.sealed();
      } else if (message.has_failed() && message.failed().key().request() == request) {
        out.failed = true;
        out.failure = message.failed();
      }
    }
  }
  for (const auto& sample : tokens) {
    std::vector<TokenId>& list = out.tokens.emplace_back();
    for (const auto& [index, token] : sample) list.push_back(token);
  }
  return out;
}

}  // namespace baton
