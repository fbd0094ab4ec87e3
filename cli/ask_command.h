// `baton ask`: one streamed completion from a running server, with what it cost.
#pragma once

#include <memory>

#include "cli/command.h"

namespace baton {

std::unique_ptr<Command> MakeAskCommand();

}  // namespace baton
