// `baton up`: a whole local cluster in the foreground.
#pragma once

#include <memory>

#include "cli/command.h"

namespace baton {

std::unique_ptr<Command> MakeUpCommand();

}  // namespace baton
