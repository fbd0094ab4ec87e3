#include "tests/unit/router/fake_completion_service.h"

#include <algorithm>
#include <utility>

#include "common/hash.h"

namespace baton {
namespace {

constexpr absl::Duration kPatience = absl::Seconds(20);

// As the router does once it has told its sinks.
void Flush(const std::shared_ptr<SinkGroup>& group) {
  if (group != nullptr) group->Flush();
}

}  // namespace

FakeCompletionService::FakeCompletionService() : mailbox_(1 << 20), thread_([this] { Loop(); }) {}

FakeCompletionService::~FakeCompletionService() {
  mailbox_.Close();
  thread_.join();
}

void FakeCompletionService::Loop() {
  while (true) {
    auto tasks = mailbox_.WaitAndTakeAll(kPatience);
    if (tasks.empty() && mailbox_.closed()) return;
    for (auto& task : tasks) task();
  }
}

char FakeCompletionService::LetterAt(uint64_t seed, int32_t sample, int32_t index) {
  const uint64_t hash =
      HashCombine(HashCombine(seed, static_cast<uint64_t>(sample)), static_cast<uint64_t>(index));
  return static_cast<char>('a' + hash % 26);
}

std::string FakeCompletionService::TextOf(uint64_t seed, int32_t sample, int32_t max_tokens) {
  std::string text;
  for (int32_t i = 0; i < max_tokens; ++i) text += LetterAt(seed, sample, i);
  return text;
}

RequestId FakeCompletionService::Submit(RoutedRequest request, std::shared_ptr<ResponseSink> sink) {
  RequestId id;
  FakeScript script;
  {
    absl::MutexLock lock(&mutex_);
    id = RequestId(next_id_++);
    script = script_;
    submitted_.push_back(request);
    external_[request.external_id] = id;
  }
  Call call{std::move(request), std::move(sink)};
  (void)mailbox_.Push([this, id, script, call = std::move(call)]() mutable {
    Begin(id, std::move(script), std::move(call));
  });
  return id;
}

void FakeCompletionService::Begin(RequestId id, FakeScript script, Call call) {
  const GenerationSpec& spec = call.request.spec;
  if (spec.sampling.num_prompt_logprobs >= 0) {
    std::vector<OutputToken> prompt;
    for (const TokenId token : spec.tokens) {
      const std::string piece = token < 256 ? std::string(1, static_cast<char>(token)) : "<s>";
      prompt.push_back({.token = token, .piece = piece, .logprob = -0.5f});
    }
    call.sink->OnPromptLogprobs(std::move(prompt));
  }
  const int32_t all = spec.stopping.max_tokens;
  const int32_t first = script.tokens_before_hold < 0 ? all : script.tokens_before_hold;
  Call& kept = calls_.emplace(id, std::move(call)).first->second;
  Emit(kept, std::min(first, all), script.text_bytes_per_token);
  if (script.error.has_value()) {
    const auto group = kept.sink->group();
    kept.sink->OnError(*script.error);
    calls_.erase(id);
    Flush(group);
  } else if (first >= all) {
    Finish(id);
  }
}

void FakeCompletionService::Emit(Call& call, int32_t until, size_t bytes_per_token) {
  const GenerationSpec& spec = call.request.spec;
  for (; call.emitted < until; ++call.emitted) {
    for (int32_t sample = 0; sample < spec.num_samples; ++sample) {
      const char letter = LetterAt(spec.sampling.seed, sample, call.emitted);
      OutputToken token{.token = letter, .piece = std::string(1, letter), .logprob = -0.25f};
      for (int32_t k = 0; k < spec.sampling.num_logprobs; ++k) {
        const auto other = static_cast<TokenId>('A' + k);
        token.top.emplace_back(TokenLogprob{other, -1.0f - static_cast<float>(k)},
                               std::string(1, static_cast<char>(other)));
      }
      SampleDelta delta{.sample = sample, .text = std::string(bytes_per_token, letter)};
      delta.tokens.push_back(std::move(token));
      if (call.emitted + 1 == spec.stopping.max_tokens) {
        delta.finished = true;
        delta.reason = FinishReason::kLength;
      }
      call.sink->OnDelta(std::move(delta));
    }
  }
  Flush(call.sink->group());
}

void FakeCompletionService::Finish(RequestId id) {
  const auto it = calls_.find(id);
  if (it == calls_.end()) return;
  const GenerationSpec& spec = it->second.request.spec;
  RequestSummary summary{.prompt_tokens = spec.prompt_length,
                         .completion_tokens = spec.num_samples * spec.stopping.max_tokens,
                         .cached_tokens = 3};
  summary.timings.ttft_ms = 12.5;
  summary.timings.kv_bytes = 4096;
  summary.timings.prefill_worker = "prefill-0";
  const auto group = it->second.sink->group();
  it->second.sink->OnFinish(std::move(summary));
  calls_.erase(it);
  Flush(group);
}

void FakeCompletionService::Abort(RequestId id) {
  const auto it = calls_.find(id);
  if (it == calls_.end()) return;
  const auto group = it->second.sink->group();
  it->second.sink->OnError({RequestErrorCode::kAborted, "aborted"});
  calls_.erase(it);
  Flush(group);
  absl::MutexLock lock(&mutex_);
  ++cancelled_;
}

void FakeCompletionService::Release() {
  (void)mailbox_.Push([this] {
    while (!calls_.empty()) {
      auto& [id, call] = *calls_.begin();
      Emit(call, call.request.spec.stopping.max_tokens, 1);
      Finish(id);
    }
  });
}

void FakeCompletionService::Cancel(RequestId id) {
  {
    absl::MutexLock lock(&mutex_);
    ++cancel_calls_;
  }
  (void)mailbox_.Push([this, id] { Abort(id); });
}

bool FakeCompletionService::CancelExternal(const std::string& external_id) {
  RequestId id;
  {
    absl::MutexLock lock(&mutex_);
    const auto it = external_.find(external_id);
    if (it == external_.end()) return false;
    id = it->second;
  }
  Cancel(id);
  return true;
}

void FakeCompletionService::Drain() {
  absl::MutexLock lock(&mutex_);
  drained_ = true;
  readiness_ = {ReadyPhase::kDraining, ""};
}

ServedModel FakeCompletionService::model() const {
  return {.name = "demo",
          .root = "models/demo",
          .max_model_len = 256,
          .vocab_size = 258,
          .created_unix_s = 1700000000};
}

Readiness FakeCompletionService::readiness() const {
  absl::MutexLock lock(&mutex_);
  return readiness_;
}

LoadView FakeCompletionService::load() const {
  LoadView view{.requests_running = 2, .requests_waiting = 1};
  view.workers.push_back({.id = "prefill-0",
                          .role = "prefill",
                          .alive = true,
                          .running = 1,
                          .free_blocks = 10,
                          .total_blocks = 16});
  return view;
}

ClusterReport FakeCompletionService::report() const {
  ClusterReport report{.time_s = 12.5,
                       .stages = {{"queued", 1}, {"decoding", 2}},
                       .missed = {{"prefill", 3}},
                       .generation_tokens = 40};
  report.classes.push_back(
      {.name = "default", .ttft_ms = 200, .tpot_ms = 50, .results = {{"good", 7}, {"error", 1}}});
  report.workers.push_back({.id = "prefill-0", .role = "prefill", .alive = true});
  report.pairs.push_back({"prefill-0", "decode-0", "shm", 7, 4096, 1.5});
  return report;
}

void FakeCompletionService::set_script(FakeScript script) {
  absl::MutexLock lock(&mutex_);
  script_ = std::move(script);
}

void FakeCompletionService::set_readiness(Readiness readiness) {
  absl::MutexLock lock(&mutex_);
  readiness_ = std::move(readiness);
}

bool FakeCompletionService::WaitForCancelled(int32_t count) {
  absl::MutexLock lock(&mutex_);
  const auto reached = [&] {
    mutex_.AssertHeld();
    return cancelled_ >= count;
  };
  return mutex_.AwaitWithTimeout(absl::Condition(&reached), kPatience);
}

bool FakeCompletionService::WaitForCancelCalls(int32_t count) {
  absl::MutexLock lock(&mutex_);
  const auto reached = [&] {
    mutex_.AssertHeld();
    return cancel_calls_ >= count;
  };
  return mutex_.AwaitWithTimeout(absl::Condition(&reached), kPatience);
}

bool FakeCompletionService::WaitForSubmitted(int32_t count) {
  absl::MutexLock lock(&mutex_);
  const auto reached = [&] {
    mutex_.AssertHeld();
    return static_cast<int32_t>(submitted_.size()) >= count;
  };
  return mutex_.AwaitWithTimeout(absl::Condition(&reached), kPatience);
}

std::vector<RoutedRequest> FakeCompletionService::submitted() const {
  absl::MutexLock lock(&mutex_);
  return submitted_;
}

int32_t FakeCompletionService::cancelled() const {
  absl::MutexLock lock(&mutex_);
  return cancelled_;
}

bool FakeCompletionService::drained() const {
  absl::MutexLock lock(&mutex_);
  return drained_;
}

}  // namespace baton
