// A CompletionService that answers by a script, on a loop thread of its own as the router does.
#pragma once

#include <functional>
#include <map>
#include <memory>
#include <optional>
#include <string>
#include <thread>
#include <vector>

#include "absl/synchronization/mutex.h"
#include "common/mailbox.h"
#include "router/cluster_report.h"
#include "router/completion_service.h"

namespace baton {

// What happens to every request.
struct FakeScript {
  // After this many tokens of each sample: -1 all of max_tokens, else hold there until Release,
  // fail, or cancel.
  int32_t tokens_before_hold = -1;
  std::optional<RequestError> error;  // instead of holding
  size_t text_bytes_per_token = 1;    // > 1: the token's letter repeated, to fill buffers
};

// Token `i` of sample `s` is the letter LetterAt(seed, s, i): the same request, the same answer.
class FakeCompletionService final : public CompletionService {
 public:
  FakeCompletionService();
  ~FakeCompletionService() override;

  static char LetterAt(uint64_t seed, int32_t sample, int32_t index);
  // The whole text that `max_tokens` letters make.
  static std::string TextOf(uint64_t seed, int32_t sample, int32_t max_tokens);

  void set_script(FakeScript script);
  void set_readiness(Readiness readiness);
  // Held requests go on to their end.
  void Release();
  bool WaitForCancelled(int32_t count);
  bool WaitForCancelCalls(int32_t count);  // also of what had ended
  bool WaitForSubmitted(int32_t count);
  std::vector<RoutedRequest> submitted() const;
  int32_t cancelled() const;
  bool drained() const;

  RequestId Submit(RoutedRequest request, std::shared_ptr<ResponseSink> sink) override;
  void Cancel(RequestId id) override;
  bool CancelExternal(const std::string& external_id) override;
  void Drain() override;
  ServedModel model() const override;
  Readiness readiness() const override;
  LoadView load() const override;
  ClusterReport report() const override;

 private:
  struct Call {
    RoutedRequest request;
    std::shared_ptr<ResponseSink> sink;
    int32_t emitted = 0;  // tokens of each sample
  };

  void Loop();
  void Begin(RequestId id, FakeScript script, Call call);
  void Emit(Call& call, int32_t until, size_t bytes_per_token);
  void Finish(RequestId id);
  void Abort(RequestId id);

  Mailbox<std::function<void()>> mailbox_;
  std::map<RequestId, Call> calls_;  // loop thread only

  mutable absl::Mutex mutex_;
  FakeScript script_ ABSL_GUARDED_BY(mutex_);
  Readiness readiness_ ABSL_GUARDED_BY(mutex_){ReadyPhase::kReady, ""};
  std::vector<RoutedRequest> submitted_ ABSL_GUARDED_BY(mutex_);
  std::map<std::string, RequestId> external_ ABSL_GUARDED_BY(mutex_);
  int32_t cancelled_ ABSL_GUARDED_BY(mutex_) = 0;
  int32_t cancel_calls_ ABSL_GUARDED_BY(mutex_) = 0;
  bool drained_ ABSL_GUARDED_BY(mutex_) = false;
  uint64_t next_id_ ABSL_GUARDED_BY(mutex_) = 1;

  std::thread thread_;
};

}  // namespace baton
