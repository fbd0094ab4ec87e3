// `baton bench serve`: an open-loop load generator for any OpenAI-compatible server.
#pragma once

#include <memory>

#include "cli/command.h"

namespace baton {

std::unique_ptr<Command> MakeBenchServeCommand();

}  // namespace baton
