// `baton keys new`: makes API keys.
#pragma once

#include <memory>

#include "cli/command.h"

namespace baton {

std::unique_ptr<Command> MakeKeysNewCommand();

}  // namespace baton
