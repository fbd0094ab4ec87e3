// `baton worker`: one worker process in the foreground.
#pragma once

#include <memory>

#include "cli/command.h"

namespace baton {

std::unique_ptr<Command> MakeWorkerCommand();

}  // namespace baton
