// Where the sources lie that a test was built from, with the files that it reads: models, goldens.
#pragma once

#include <string>

namespace baton {

// Fixed when it is built. Without a slash at its end.
std::string SourceDir();

}  // namespace baton
