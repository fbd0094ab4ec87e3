// `baton health`: asks a router or a worker whether it serves. What a container's health check
// runs.
#pragma once

#include <memory>

#include "cli/command.h"

namespace baton {

std::unique_ptr<Command> MakeHealthCommand();

}  // namespace baton
