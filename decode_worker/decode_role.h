// The roles decode and both as the step loop runs them: the core over an engine and a KV receiver.
#pragma once

#include <memory>
#include <string>

#include "absl/status/statusor.h"
#include "kvtransfer/transport.h"
#include "worker/worker_shell.h"

namespace baton {

// On the step thread. `transports` is owned by the role; `description` names it for people.
absl::StatusOr<MadeRole> MakeDecodeRole(const RoleContext& context,
                                        std::unique_ptr<TransportFactory> transports,
                                        const std::string& description);

}  // namespace baton
