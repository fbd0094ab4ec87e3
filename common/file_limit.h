// The process's limit of open files.
#pragma once

#include <cstdint>

namespace baton {

// Raises the soft limit to the hard one: every client, stream and worker is a descriptor, and the
// usual soft limit of 1,024 would be a hidden cap on them. No harm where it cannot.
void RaiseFileLimit();

// The soft limit.
uint64_t FileLimit();

// Whether an accepted connection has taken one of the last descriptors, which are kept for what the
// process does by itself: UCX 1.13 ends it when it gets none, even while it closes a connection.
// Such a connection is closed at once.
bool IsFromReserve(int fd);

// How many of the `wanted` connections of clients a limit of `files` allows, with `own` descriptors
// and some more left to the process. Without this, clients could keep it from reaching its workers.
uint64_t ConnectionsWithin(uint64_t files, uint64_t wanted, uint64_t own);

}  // namespace baton
