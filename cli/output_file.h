// Files that a command writes at its end, after what may have been hours.
#pragma once

#include <string>

#include "absl/status/status.h"

namespace baton {

// Whether `path` could be written, found out before the work; creates and changes nothing. OK when
// it is empty. INVALID_ARGUMENT names `key`, the setting, and the reason.
absl::Status CheckWritable(const std::string& key, const std::string& path);

// Replaces what was there.
absl::Status WriteFile(const std::string& path, const std::string& text);

}  // namespace baton
