// Counts what this test program allocates through operator new.
#pragma once

#include <cstdint>

namespace baton {

int64_t AllocationCount();  // since the program started, on all threads

}  // namespace baton
