// The prefill role as the step loop runs it: the core over an engine and a KV sender.
#pragma once

#include "absl/status/statusor.h"
#include "worker/kv_transport.h"
#include "worker/worker_shell.h"

namespace baton {

// On the step thread.
absl::StatusOr<MadeRole> MakePrefillRole(const RoleContext& context, KvTransport transport);

}  // namespace baton
