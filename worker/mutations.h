// Deliberate bugs for the fault exploration, which must catch each of them. Only tests and the
// simulator set these; the shells always pass the defaults.
#pragma once

namespace baton {

struct WorkerMutations {
  bool release_before_sent = false;   // prefill: blocks go back when the prompt is done (H7)
  bool free_before_release = false;   // decode: an ended landing frees its blocks at once (H2)
  bool decode_after_failure = false;  // decode: what failed to land is decoded anyway (H4)
  bool keep_after_session = false;    // both: a lost router's requests go on (H5)
};

}  // namespace baton
