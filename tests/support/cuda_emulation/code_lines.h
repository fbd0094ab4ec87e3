// Source lines of machine code, for messages.
#pragma once

#include <string>

namespace baton::cuda_emulation {

// The function and line of the call that returns to `code`, and those that it is inlined into, a
// line each; without addr2line the address in its file.
std::string LinesOf(const void* code);

}  // namespace baton::cuda_emulation
