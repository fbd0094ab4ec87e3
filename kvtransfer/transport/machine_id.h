// Which workers may share memory.
#pragma once

#include <string>

namespace baton {

// Equal for two processes exactly when they run under one kernel, see the same /dev/shm and share
// their process and IPC namespaces, so that UCX's shared-memory transports can join them. Two
// containers on one host usually differ. Empty when /proc cannot tell: then nothing is shared.
std::string LocalMachineId();

}  // namespace baton
