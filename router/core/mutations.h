// Deliberate bugs for the fault exploration, which must catch each of them. Only tests and the
// simulator set these; the shells always pass the defaults.
#pragma once

namespace baton::router {

struct RouterMutations {
  bool lose_abort = false;              // workers are not told that a request has ended (H8)
  bool retry_without_abort = false;     // the other half of a lost attempt goes on
  bool deadline_from_dispatch = false;  // the deadline counts from the last dispatch
  bool resume_off_by_one = false;       // a resumed request goes on from another place (H6)
  bool repeat_tokens = false;           // a retried request's tokens go out again (H6)
  bool complete_twice = false;          // two ends (H6)
};

}  // namespace baton::router
