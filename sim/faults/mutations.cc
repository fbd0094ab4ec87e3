#include "sim/faults/mutations.h"

namespace baton::sim {
namespace {

template <typename Part>
Mutant Make(std::string_view name, std::string_view pattern, Part Mutations::*part,
            bool Part::*flag) {
  Mutant mutant{name, pattern, {}};
  (mutant.mutations.*part).*flag = true;
  return mutant;
}

}  // namespace

const std::vector<Mutant>& Mutants() {
  using H = HandoffMutations;
  using R = router::RouterMutations;
  using W = WorkerMutations;
  using S = SchedulerMutations;
  constexpr auto kHandoff = &Mutations::handoff;
  constexpr auto kRouter = &Mutations::router;
  constexpr auto kWorker = &Mutations::worker;
  constexpr auto kScheduler = &Mutations::scheduler;
  static const auto* const mutants = new std::vector<Mutant>{
      Make("release_on_timeout", "freed while a write was open", kHandoff, &H::release_on_timeout),
      Make("first_receive_frees", "the first of several writers freed", kHandoff,
           &H::first_receive_frees),
      Make("failed_receive_lands", "a receive failure reported as success", kHandoff,
           &H::failed_receive_lands),
      Make("seal_before_landed", "decoded before the last byte", kHandoff, &H::seal_before_landed),
      Make("skip_checksum", "corrupt bytes taken", kHandoff, &H::skip_checksum),
      Make("double_terminal", "duplicate completion of a transfer", kHandoff, &H::double_terminal),
      Make("lose_cancel", "an abort that the transport never heard", kHandoff, &H::lose_cancel),
      Make("ignore_disconnect", "an unbounded wait for a dead peer", kHandoff,
           &H::ignore_disconnect),
      Make("early_unpin", "source freed while a send was open", kHandoff, &H::early_unpin),
      Make("delivered_on_send_done", "an acknowledgement lost, then freed", kHandoff,
           &H::delivered_on_send_done),
      Make("match_request_only", "a peer replaced behind a stable address", kHandoff,
           &H::match_request_only),
      Make("release_before_sent", "evicted before it was sent", kWorker, &W::release_before_sent),
      Make("free_before_release", "an abort that raced a completion", kWorker,
           &W::free_before_release),
      Make("decode_after_failure", "an aborted prefill decoded anyway", kWorker,
           &W::decode_after_failure),
      Make("keep_after_session", "requests of a dead router kept", kWorker, &W::keep_after_session),
      Make("lose_abort", "an abort that was not propagated", kRouter, &R::lose_abort),
      Make("retry_without_abort", "a half-dispatched retry", kRouter, &R::retry_without_abort),
      Make("deadline_from_dispatch", "a deadline started at the wrong event", kRouter,
           &R::deadline_from_dispatch),
      Make("resume_off_by_one", "a token skipped by a failover", kRouter, &R::resume_off_by_one),
      Make("repeat_tokens", "tokens repeated after a retry", kRouter, &R::repeat_tokens),
      Make("complete_twice", "two ends of one request", kRouter, &R::complete_twice),
      Make("index_before_seal", "a stale block found in the prefix cache", kScheduler,
           &S::index_before_seal),
  };
  return *mutants;
}

}  // namespace baton::sim
