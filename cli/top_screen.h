// What `baton top` draws, from two answers of GET /cluster. Pure.
#pragma once

#include <string>

#include "absl/status/statusor.h"

namespace baton {

struct TopScreenOptions {
  bool color = false;
};

// `before` and `now`: bodies of GET /cluster, `before` the older one; rates are taken between them.
// INVALID_ARGUMENT: the answer is not what a Baton router says.
absl::StatusOr<std::string> DrawTopScreen(const std::string& before, const std::string& now,
                                          const TopScreenOptions& options);

}  // namespace baton
