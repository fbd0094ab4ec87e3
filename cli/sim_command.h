// `baton sim explore` and `baton sim replay`: fault schedules against the production cores.
#pragma once

#include <memory>

#include "cli/command.h"

namespace baton {

std::unique_ptr<Command> MakeSimExploreCommand();
std::unique_ptr<Command> MakeSimReplayCommand();

}  // namespace baton
