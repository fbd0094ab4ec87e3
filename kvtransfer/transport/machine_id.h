// Which workers may share memory.
#pragma once

#include <string>

namespace baton {

// Equal for two processes exactly when they run under one kernel, see the same /dev/shm and share
// their process, IPC and network namespaces, so that UCX's shared-memory transports can join them:
// they wake one another over abstract sockets, which end at the network namespace. Two containers
// on one host usually differ. Empty when /proc cannot tell: then nothing is shared.
std::string LocalMachineId();

}  // namespace baton
