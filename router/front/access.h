// Who may call the fronts, and in whose name: API keys and their quotas.
#pragma once

#include <string>
#include <string_view>

#include "absl/time/time.h"

namespace baton {

// What a route asks of its caller. Each route of both fronts names one; health names none.
enum class Access {
  kUse,    // completions, models, tokenizer
  kAdmin,  // metrics, cluster, drain, abort, load
};

struct AccessDecision {
  enum class Result { kAllowed, kNoKey, kWrongKey, kNotAdmin, kOverQuota };
  Result result = Result::kAllowed;
  std::string tenant;          // kAllowed: whom the key belongs to
  absl::Duration retry_after;  // kOverQuota
};

// Thread-safe.
class AccessControl {
 public:
  virtual ~AccessControl() = default;
  // `authorization`: the header or metadata of that name, "Bearer KEY"; it is never logged.
  virtual AccessDecision Check(std::string_view authorization, Access needed) = 0;
};

}  // namespace baton
