// `baton doctor`: what this machine offers and what would be used; the line that fixes a bad setup.
#pragma once

#include <memory>

#include "cli/command.h"

namespace baton {

std::unique_ptr<Command> MakeDoctorCommand();

}  // namespace baton
