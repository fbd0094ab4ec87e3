// How this process was called.
#pragma once

#include <string>

namespace baton {

// What was typed, quoted where a shell needs it: for reports, so that a figure can be measured
// again.
std::string CommandLine();

}  // namespace baton
