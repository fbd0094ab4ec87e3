// The roles decode and both as the step loop runs them: the core over an engine and a KV receiver.
#pragma once

#include "absl/status/statusor.h"
#include "worker/kv_transport.h"
#include "worker/worker_shell.h"

namespace baton {

// On the step thread.
absl::StatusOr<MadeRole> MakeDecodeRole(const RoleContext& context, KvTransport transport);

}  // namespace baton
