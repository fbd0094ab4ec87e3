// `baton bench sweep`: disaggregated against colocated serving on the same cores.
#pragma once

#include <memory>

#include "cli/command.h"

namespace baton {

std::unique_ptr<Command> MakeBenchSweepCommand();

}  // namespace baton
