// `baton rank`: one of the processes that compute a model together. Started by `baton worker
// --tensor-parallel`, not by people.
#pragma once

#include <memory>

#include "cli/command.h"

namespace baton {

std::unique_ptr<Command> MakeRankCommand();

}  // namespace baton
