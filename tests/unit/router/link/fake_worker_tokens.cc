// The tokens of a fake worker: which they are, and how far each sample goes.
#include <cstdint>
#include <iterator>
#include <utility>
#include <vector>

#include "common/hash.h"
#include "common/ids.h"
#include "common/request.h"
#include "proto/baton/v1/worker.grpc.pb.h"
#include "tests/unit/router/link/fake_worker_impl.h"

namespace baton::router {

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

void FakeWorker::Impl::Begin(GenerationSpec spec, Sequence* sequence) {
  sequence->spec = std::move(spec);
  for (int32_t i = 0; i < sequence->spec.num_samples; ++i) {
    const int32_t sample = sequence->spec.first_sample + i;
    sequence->tokens[sample] = sequence->spec.tokens;
    sequence->ended[sample] = false;
  }
}

TokenId FakeWorker::Impl::Draw(Sequence& sequence, int32_t sample) const {
  std::vector<TokenId>& tokens = sequence.tokens[sample];
  const int32_t index = static_cast<int32_t>(tokens.size()) - sequence.spec.prompt_length;
  const TokenId token = index == options_.eos_at
                            ? options_.eos_token
                            : FakeToken(sequence.spec.sampling.seed, sample, tokens);
  tokens.push_back(token);
  return token;
}

void FakeWorker::Impl::Add(v1::Tokens* out, int32_t sample, int32_t index, TokenId token) {
  v1::TokenOutput* entry = out->add_tokens();
  entry->set_sample(sample);
  entry->set_index(index);
  entry->set_token(token);
}

void FakeWorker::Impl::RunPrefill(const v1::Prefill& prefill) {
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

void FakeWorker::Impl::EndSampleByAbort(const RequestKey& key, Sequence& sequence, int32_t sample) {
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

void FakeWorker::Impl::Pump() {
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

void FakeWorker::Impl::RunSample(const RequestKey& key, Sequence& sequence, int32_t sample,
                                 bool first_is_known) {
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

}  // namespace baton::router
