// `baton top`: a running router's cluster, in a terminal.
#pragma once

#include <memory>

#include "cli/command.h"

namespace baton {

std::unique_ptr<Command> MakeTopCommand();

}  // namespace baton
