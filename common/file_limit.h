// The process's limit of open files.
#pragma once

namespace baton {

// Raises the soft limit to the hard one: every client, stream and worker is a descriptor, and the
// usual soft limit of 1,024 would be a hidden cap on them. No harm where it cannot.
void RaiseFileLimit();

}  // namespace baton
